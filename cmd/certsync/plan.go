package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
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
			p, err := a.plan(cmd.Context(), o, out != "")
			if err != nil {
				return err
			}
			if out != "" {
				if err := savePlan(out, p); err != nil {
					return err
				}
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

// plan observes and compares. A sealed plan can be saved.
func (a *app) plan(ctx context.Context, o reconcile.Options, seal bool) (*reconcile.Plan, error) {
	sp, err := a.load()
	if err != nil {
		return nil, err
	}
	store, err := a.openStore(sp)
	if err != nil {
		return nil, err
	}
	state, err := a.observe(ctx, sp, store)
	if err != nil {
		return nil, err
	}
	p, err := reconcile.Diff(sp, state, o, a.now())
	if err != nil {
		return nil, err
	}
	if seal {
		p.Seal(sp, state)
	}
	return p, nil
}

func (a *app) observe(ctx context.Context, sp *spec.Spec, store *files.Store) (*reconcile.State, error) {
	state, err := reconcile.Observe(ctx, sp, a.backends(store))
	for _, n := range store.Notices() {
		view.Notice(a.stderr, n.Message)
	}
	return state, err
}

func savePlan(path string, p *reconcile.Plan) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
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
