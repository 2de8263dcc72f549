package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the spec alone, offline",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			sp, err := a.load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "The spec is valid: %d issuers, %d certificates.\n", len(sp.Issuers), len(sp.Certificates))
			return err
		},
	}
}
