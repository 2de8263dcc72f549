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
			_, err = fmt.Fprintf(a.stdout, "The spec is valid: %s, %s.\n", count(len(sp.Issuers), "issuer"), count(len(sp.Certificates), "certificate"))
			return err
		},
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
