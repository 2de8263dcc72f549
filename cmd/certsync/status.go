package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
)

func (a *app) statusCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status [NAME…]",
		Short: "Show the state of each certificate",
		Long: `Show the state of each certificate: its issuer, whether anything is wrong with it
or due, when it expires and when it is renewed, and where it is written to.
Nothing is changed. The exit code is 1 only if something could not be read, or a
request was refused.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkFormat(format, "text", "wide", "json"); err != nil {
				return err
			}
			return a.status(cmd.Context(), names, format)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, wide or json")
	return cmd
}

func (a *app) status(ctx context.Context, names []string, format string) error {
	sp, _, state, err := a.look(ctx)
	if err != nil {
		return err
	}
	p, err := reconcile.Diff(sp, state, reconcile.Options{Names: names}, a.now())
	if err != nil {
		return err
	}
	report := view.Status(sp, p)
	if format == "json" {
		err = view.JSON(a.stdout, report)
	} else {
		dir, _ := os.Getwd() // without it paths are shown in full
		err = view.StatusTable(a.stdout, report, format == "wide", dir)
		if err == nil {
			err = view.StatusRequests(a.stdout, report)
		}
	}
	if err != nil {
		return err
	}
	view.StatusNotes(a.stderr, report)
	if p.Counts.Failed > 0 {
		return errReported
	}
	return nil
}
