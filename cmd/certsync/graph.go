package main

import (
	"github.com/spf13/cobra"

	"github.com/certsync/certsync/cmd/certsync/internal/view"
)

func (a *app) graphCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Show what signs what",
		Long: `Show the spec's issuers and the certificates that they sign: as a tree, for
Graphviz (-o dot) or as a Mermaid flowchart (-o mermaid).`,
		Example: "  certsync graph -o dot | dot -Tsvg -o pki.svg",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(format, "text", "dot", "mermaid"); err != nil {
				return err
			}
			sp, err := a.load()
			if err != nil {
				return err
			}
			switch format {
			case "dot":
				return view.GraphDot(a.stdout, sp)
			case "mermaid":
				return view.GraphMermaid(a.stdout, sp)
			}
			return view.GraphTree(a.stdout, sp)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, dot or mermaid")
	return cmd
}
