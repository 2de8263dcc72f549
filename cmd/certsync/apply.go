package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

func (a *app) applyCommand() *cobra.Command {
	var (
		o      reconcile.Options
		saved  string
		format string
		yes    bool
		wait   waitFlag
	)
	cmd := &cobra.Command{
		Use:   "apply [NAME…]",
		Short: "Issue, renew, replace and repair what the plan says",
		Long: `Make the plan, or take the one that plan --out saved, and carry it out. On a
terminal apply shows the plan and asks; elsewhere it needs --yes. A saved plan is
carried out as it is, or refused if the spec or anything there has changed since.

What a remote issuer, such as a signer of Kubernetes, has not answered yet is fetched
by a later apply; the exit code is 3 then. --wait waits for it.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			o.Names = names
			if err := checkFormat(format, "text", "json"); err != nil {
				return err
			}
			if saved != "" && (len(names) > 0 || len(o.Replace) > 0 || o.Prune) {
				return errors.New("a saved plan has its own names, --replace and --prune: give none with --plan")
			}
			return a.apply(cmd.Context(), applyRun{options: o, saved: saved, json: format == "json", yes: yes || saved != "", wait: wait})
		},
	}
	flags := cmd.Flags()
	planFlags(cmd, &o)
	flags.StringVar(&saved, "plan", "", "carry out the plan saved in `FILE`")
	flags.StringVarP(&format, "output", "o", "text", "text or json")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	flags.Var(&wait, "wait", "wait for remote issuers: for `DURATION`, or without one as long as each issuer's timeout says")
	flags.Lookup("wait").NoOptDefVal = waitDefault
	return cmd
}

// applyRun is what one apply was asked to do.
type applyRun struct {
	options reconcile.Options
	saved   string // path of a saved plan; empty to make one
	json    bool
	yes     bool
	wait    waitFlag
}

// waitFlag is --wait, with or without a duration.
type waitFlag struct {
	set bool
	d   time.Duration // 0: as the issuers say
}

// waitDefault stands for a --wait without a duration.
const waitDefault = "timeout"

func (w *waitFlag) String() string {
	switch {
	case !w.set:
		return ""
	case w.d == 0:
		return waitDefault
	}
	return spec.FormatDuration(w.d)
}

// Type is what help shows for the value (pflag.Value).
func (w *waitFlag) Type() string { return "duration" }

func (w *waitFlag) Set(s string) error {
	w.set, w.d = true, 0
	if s == waitDefault {
		return nil
	}
	d, err := spec.ParseDuration(s)
	switch {
	case err != nil:
		return err
	case d <= 0:
		return errors.New("must be positive")
	}
	w.d = d
	return nil
}

func (a *app) apply(ctx context.Context, r applyRun) (err error) {
	sp, store, err := a.open()
	if err != nil {
		return err
	}
	release, err := store.Lock("certsync apply")
	if err != nil {
		return err
	}
	defer func() {
		if unlocked := release(); unlocked != nil {
			view.Error(a.stderr, unlocked)
			err = cmp.Or(err, errReported)
		}
	}()
	notices, err := store.Recover(ctx)
	for _, n := range notices {
		view.Notice(a.stderr, n.Message)
	}
	if err != nil {
		return fmt.Errorf("recover from an interrupted apply: %w", err)
	}
	p, state, err := a.planToApply(ctx, r, sp, store)
	if err != nil {
		return err
	}
	if !r.json {
		if err := view.Plan(a.stdout, p); err != nil {
			return err
		}
	}
	if p.Counts.Changes() > 0 && !r.yes {
		if err := a.confirm(); err != nil {
			return err
		}
	}
	progress, done := view.Progress(a.stderr, p.Counts.Changes()+p.Counts.Wait)
	ctx, stop := untilSignal(ctx)
	results := reconcile.Apply(ctx, sp, state, p, a.backends(store), reconcile.ApplyOptions{Now: a.now, Progress: progress,
		Wait: r.wait.set, WaitFor: r.wait.d})
	stop()
	done()
	if r.json {
		err = view.JSON(a.stdout, view.ApplyReport(p, results))
	} else {
		err = view.Results(a.stdout, a.stderr, results)
	}
	if err != nil {
		return err
	}
	return outcome(p, results)
}

// untilSignal returns a context that ends with the first interrupt, so that the
// commit under way is finished. A second one ends the process, as the first one
// does everywhere else: whatever is killed leaves nothing that cannot be recovered.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// planToApply makes the plan, or takes the saved one if it still holds.
func (a *app) planToApply(ctx context.Context, r applyRun, sp *spec.Spec, store *files.Store) (*reconcile.Plan, *reconcile.State, error) {
	state, err := a.observe(ctx, sp, store)
	if err != nil {
		return nil, nil, err
	}
	if r.saved == "" {
		p, err := reconcile.Diff(sp, state, r.options, a.now())
		return p, state, err
	}
	saved, err := loadPlan(r.saved)
	if err != nil {
		return nil, nil, err
	}
	p, err := reconcile.Recheck(saved, sp, state)
	if errors.Is(err, reconcile.ErrStale) {
		err = withHint(err, "make and review a new one with certsync plan --out")
	}
	return p, state, err
}

// outcome tells the exit code that the results call for.
func outcome(p *reconcile.Plan, results []reconcile.Result) error {
	pending := false
	for i := range results {
		switch err := results[i].Err; {
		case errors.Is(err, reconcile.ErrPending):
			pending = true
		case err != nil:
			return errReported
		}
	}
	var left []error
	for i := range p.Items {
		// What was repaired while its request waits, waits all the same.
		it := &p.Items[i]
		pending = pending || it.Action == reconcile.ActionRepair && it.Has(reconcile.Pending)
		if err := it.Left(); err != nil {
			left = append(left, fmt.Errorf("%s: %w", it.ID().Title(), err))
		}
	}
	if len(left) > 0 {
		return errors.Join(left...)
	}
	if pending {
		return exitIncomplete
	}
	return nil
}

// confirm asks on a terminal; elsewhere nobody can answer.
func (a *app) confirm() error {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return withHint(errors.New("nothing was applied: there is no terminal to ask for approval on"), "give --yes, or review a saved plan: plan --out FILE, then apply --plan FILE")
	}
	fmt.Fprint(a.stderr, "\nApply this plan? Only \"yes\" is taken as approval: ")
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was applied: not approved")
	}
	return nil
}
