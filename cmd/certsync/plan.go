package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
)

func (a *app) planCommand() *cobra.Command {
	var (
		o        reconcile.Options
		out      string
		format   string
		detailed bool
	)
	cmd := &cobra.Command{
		Use:   "plan [NAME…]",
		Short: "Show what apply would do, and why",
		Long: `Compare the spec with what is there, and show what apply would do, with the
reasons for each step. Nothing is changed. Names, which may be globs, narrow what
is looked at.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			o.Names = names
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			p, err := a.plan(cmd.Context(), o, out)
			if err != nil {
				return err
			}
			if format == "json" {
				err = view.JSON(a.stdout, p)
			} else {
				err = view.Plan(a.stdout, p)
			}
			switch {
			case err != nil:
				return err
			case p.Counts.Failed > 0:
				return errReported
			case detailed && !p.Empty():
				return exitChanges
			}
			return nil
		},
	}
	flags := cmd.Flags()
	planFlags(cmd, &o)
	flags.StringVar(&out, "out", "", "save the plan to `FILE`, for apply --plan")
	flags.StringVarP(&format, "output", "o", "text", "text or json")
	flags.BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 if there is anything to do")
	return cmd
}

// planFlags adds the flags that say what a plan is about.
func planFlags(cmd *cobra.Command, o *reconcile.Options) {
	cmd.Flags().StringArrayVar(&o.Replace, "replace", nil, "replace the certificate and key of `NAME`, whatever their state; may be given several times")
	cmd.Flags().BoolVar(&o.Prune, "prune", false, "remove what certsync wrote and the spec no longer has")
}

// plan observes and compares. With a path, it saves the plan there.
func (a *app) plan(ctx context.Context, o reconcile.Options, out string) (*reconcile.Plan, error) {
	sp, _, state, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	p, err := reconcile.Diff(sp, state, o, a.now())
	if err != nil || out == "" {
		return p, err
	}
	p.Seal(sp, state)
	if err := savePlan(out, p, sp, a.stateDirectory(sp.Dir)); err != nil {
		return nil, fmt.Errorf("save the plan: %w", err)
	}
	return p, nil
}

func loadPlan(path string) (*reconcile.Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	var p reconcile.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read the plan %s: %w", path, err)
	}
	return &p, nil
}

func checkFormat(format string, known ...string) error {
	for _, k := range known {
		if format == k {
			return nil
		}
	}
	return fmt.Errorf("unknown output format %q: use one of %v", format, known)
}
