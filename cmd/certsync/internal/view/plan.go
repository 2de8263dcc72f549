package view

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// marks are how the actions are shown.
var marks = map[reconcile.Action]struct{ symbol, colour string }{
	reconcile.ActionCreate:  {"+", green},
	reconcile.ActionRenew:   {"↻", cyan},
	reconcile.ActionReplace: {"~", yellow},
	reconcile.ActionRepair:  {"=", cyan},
	reconcile.ActionWait:    {"…", yellow},
	reconcile.ActionPrune:   {"-", red},
}

// Plan writes a line for each certificate that changes, with its reasons under
// it, and a summary.
func Plan(w io.Writer, p *reconcile.Plan) error {
	out := bufio.NewWriter(w)
	c := newPainter(w)
	for i := range p.Items {
		planItem(out, c, &p.Items[i])
	}
	for i := range p.Orphans {
		orphan(out, c, &p.Orphans[i])
	}
	fmt.Fprintln(out, c.paint(bold, summary(p)))
	return out.Flush()
}

func planItem(w io.Writer, c painter, it *reconcile.Item) {
	title := subject(it)
	switch {
	case it.Error != "":
		fmt.Fprintf(w, "%s %s: %s\n", c.paint(red, "!"), title, it.Error)
		if it.Hint != "" {
			fmt.Fprintf(w, "    hint: %s\n", it.Hint)
		}
		return
	case it.Action == reconcile.ActionNone:
		for _, warning := range it.Warnings {
			fmt.Fprintf(w, "  %s: warning: %s\n", title, warning)
		}
		return
	}
	m := marks[it.Action]
	fmt.Fprintf(w, "%s %s: %s\n", c.paint(m.colour, m.symbol), title, what(it))
	for _, r := range it.Reasons {
		fmt.Fprintf(w, "    %s: %s\n", r.Code, r.Message)
		for _, d := range r.Differences {
			fmt.Fprintf(w, "      %s\n", d)
		}
	}
	if it.Request != nil && it.Request.Approve != "" {
		fmt.Fprintf(w, "    %s\n", it.Request.Approve)
	}
	if it.Action == reconcile.ActionPrune {
		for _, path := range it.Outputs {
			fmt.Fprintf(w, "    %s\n", path)
		}
	}
	for _, warning := range it.Warnings {
		fmt.Fprintf(w, "    warning: %s\n", warning)
	}
}

// subject names an item as it stands in a line of its own.
func subject(it *reconcile.Item) string {
	id := it.ID()
	return id.Title()
}

// what says what an item's action comes to.
func what(it *reconcile.Item) string {
	s := string(it.Action)
	if it.Action.Issues() {
		switch {
		case it.Issuer != "":
			s += fmt.Sprintf(", signed by %q", it.Issuer)
		default:
			s += ", self-signed"
		}
		if !it.NewKey {
			s += ", keeping its key"
		}
	}
	return s
}

func orphan(w io.Writer, c painter, it *reconcile.Item) {
	if it.Error != "" {
		planItem(w, c, it)
		return
	}
	if len(it.Outputs) > 0 {
		for _, r := range it.Reasons {
			fmt.Fprintf(w, "  %s: %s, left alone without --prune: %s\n", subject(it), r.Message, strings.Join(it.Outputs, ", "))
		}
	}
	for _, warning := range it.Warnings {
		fmt.Fprintf(w, "  %s: warning: %s\n", subject(it), warning)
	}
}

func summary(p *reconcile.Plan) string {
	n := p.Counts
	s := fmt.Sprintf("Plan: %d to create, %d to renew, %d to replace, %d to repair, ", n.Create, n.Renew, n.Replace, n.Repair)
	if n.Prune > 0 {
		s += fmt.Sprintf("%d to prune, ", n.Prune)
	}
	s += fmt.Sprintf("%d waiting, %d unchanged", n.Wait, n.Unchanged)
	if n.Failed > 0 {
		s += fmt.Sprintf(", %d failed", n.Failed)
	}
	return s + "."
}

// kindName is how people call a kind.
func kindName(k spec.Kind) string {
	if k == spec.KindIssuer {
		return "issuer"
	}
	return "certificate"
}
