package main

import "github.com/spf13/cobra"

// commands are all commands, in the order in which help lists them.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.validateCommand(),
		a.planCommand(),
		a.applyCommand(),
	}
}
