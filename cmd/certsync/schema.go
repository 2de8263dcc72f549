package main

import (
	"github.com/spf13/cobra"

	"github.com/certsync/certsync/spec"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the spec",
		Long: `Print the JSON Schema (draft 2020-12) of the spec. Editors complete and check from
it: save it, and name it in the spec's first line:

  # yaml-language-server: $schema=certsync.schema.json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(spec.Schema())
			return err
		},
	}
}
