package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// strict makes a command answer wrong usage with an error and a hint, where
// cobra would print its whole usage.
func strict(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(err, fmt.Sprintf("%s --help lists the flags", cmd.CommandPath()))
	})
	cobra.EnableCommandSorting = false
	root.DisableFlagsInUseLine = true
	root.Args = cobra.ArbitraryArgs
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := cmd.CommandPath() + " --help lists the commands"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))
		}
		return withHint(fmt.Errorf("unknown command %q", args[0]), hint)
	}
	root.SuggestionsMinimumDistance = 2
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s takes no arguments, but got %q", cmd.Name(), args[0]), cmd.CommandPath()+" --help tells how it is used")
}
