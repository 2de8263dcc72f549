package main

import "github.com/spf13/cobra"

// commands are all commands, in the order in which help lists them. Cobra adds
// completion and help.
func (a *app) commands() []*cobra.Command {
	list := []*cobra.Command{
		a.initCommand(),
		a.validateCommand(),
		a.planCommand(),
		a.applyCommand(),
		a.statusCommand(),
		a.approveCommand(),
		a.denyCommand(),
		a.verifyCommand(),
		a.inspectCommand(),
		a.graphCommand(),
		a.schemaCommand(),
		a.versionCommand(),
	}
	for _, cmd := range list {
		a.complete(cmd)
	}
	return list
}
