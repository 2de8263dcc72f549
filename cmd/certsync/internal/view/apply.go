package view

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
)

// Report is the JSON form of what an apply did.
type Report struct {
	FormatVersion int              `json:"formatVersion"`
	Plan          *reconcile.Plan  `json:"plan"`
	Results       []ReportedResult `json:"results"`
	Done          int              `json:"done"`
	Failed        int              `json:"failed"`
	// Pending counts what a remote issuer has not answered yet; it is not in Failed.
	Pending int `json:"pending,omitempty"`
	// NotStarted counts what an interrupt left undone; it is not in Failed.
	NotStarted int `json:"notStarted,omitempty"`
}

// ReportedResult is the JSON form of a reconcile.Result.
type ReportedResult struct {
	Kind        string           `json:"kind"`
	Name        string           `json:"name"`
	Action      reconcile.Action `json:"action"`
	Error       string           `json:"error,omitempty"`
	Pending     string           `json:"pending,omitempty"` // why it is not done yet
	Request     string           `json:"request,omitempty"` // name of a remote issuer's request
	Approve     string           `json:"approve,omitempty"` // the command to approve it
	Hint        string           `json:"hint,omitempty"`    // how to mend the error
	Fingerprint string           `json:"fingerprint,omitempty"`
	NotAfter    time.Time        `json:"notAfter,omitzero"`
	Altered     []pki.Difference `json:"altered,omitempty"`
	Warnings    []string         `json:"warnings,omitempty"`
}

// reportVersion is the version of Report.
const reportVersion = 1

// ApplyReport puts a plan and its results together.
func ApplyReport(p *reconcile.Plan, results []reconcile.Result) Report {
	r := Report{FormatVersion: reportVersion, Plan: p, Results: make([]ReportedResult, 0, len(results))}
	for _, res := range results {
		out := ReportedResult{Kind: string(res.Kind), Name: res.Name, Action: res.Action,
			Request: res.Request, Approve: res.Approve, Hint: hint(res.Err), Altered: res.Altered, Warnings: res.Warnings}
		switch {
		case errors.Is(res.Err, reconcile.ErrPending):
			out.Pending = res.Err.Error()
			r.Pending++
		case errors.Is(res.Err, reconcile.ErrNotStarted):
			out.Error = res.Err.Error()
			r.NotStarted++
		case res.Err != nil:
			out.Error = res.Err.Error()
			r.Failed++
		default:
			out.Fingerprint, out.NotAfter = res.Fingerprint, res.NotAfter
			r.Done++
		}
		r.Results = append(r.Results, out)
	}
	return r
}

// Results writes what became of each item: what was done, and what to do for what
// waits, to stdout, what went wrong to stderr. What an interrupt left undone is only
// counted.
func Results(stdout, stderr io.Writer, results []reconcile.Result) error {
	out := bufio.NewWriter(stdout)
	done, failed, notStarted, pending := 0, 0, 0, 0
	var interrupt error
	for _, r := range results {
		if errors.Is(r.Err, reconcile.ErrPending) {
			pending++
			fmt.Fprintf(out, "… %s: %s\n", title(r), r.Err)
			if r.Approve != "" {
				fmt.Fprintf(out, "    %s\n", r.Approve)
			}
			continue
		}
		if errors.Is(r.Err, reconcile.ErrNotStarted) {
			notStarted++
			interrupt = r.Err
			continue
		}
		if r.Err != nil {
			failed++
			Error(stderr, fmt.Errorf("%s: %w", title(r), r.Err))
			continue
		}
		done++
		for _, d := range r.Altered {
			fmt.Fprintf(stderr, "warning: %s: the issuer altered %s\n", title(r), altered(d))
		}
		for _, warning := range r.Warnings {
			fmt.Fprintf(stderr, "warning: %s: %s\n", title(r), warning)
		}
	}
	if notStarted > 0 { // the error begins with: not started
		Error(stderr, fmt.Errorf("%d %w", notStarted, interrupt))
	}
	if len(results) > 0 {
		fmt.Fprintf(out, "Apply: %d done, %d failed", done, failed)
		if pending > 0 {
			fmt.Fprintf(out, ", %d waiting", pending)
		}
		if notStarted > 0 {
			fmt.Fprintf(out, ", %d not started", notStarted)
		}
		fmt.Fprintln(out, ".")
	}
	return out.Flush()
}

// altered turns a difference, which leads from what was issued to what was
// wanted, the other way round.
func altered(d pki.Difference) pki.Difference {
	d.From, d.To = d.To, d.From
	d.Add, d.Remove = d.Remove, d.Add
	return d
}

func title(r reconcile.Result) string {
	id := r.ID()
	return id.Title()
}

// longApply is from how many items on an apply shows its progress.
const longApply = 50

// Progress returns what shows the progress of n items, and what ends the show.
// Nothing is shown but on a terminal, and for long work.
func Progress(w io.Writer, n int) (step func(reconcile.Result), done func()) {
	if n < longApply || !IsTerminal(w) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(n,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("applying"),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	// What the bar has to say of a terminal that is gone is of no interest.
	return func(reconcile.Result) { _ = bar.Add(1) }, func() { _ = bar.Finish() }
}
