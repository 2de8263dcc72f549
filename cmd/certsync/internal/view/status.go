package view

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// StatusReport is the JSON form of status.
type StatusReport struct {
	FormatVersion int       `json:"formatVersion"`
	Time          time.Time `json:"time"`
	// Counts tells how many certificates are in which state.
	Counts       map[string]int       `json:"counts"`
	Certificates []ReportedCertStatus `json:"certificates"`
}

// ReportedCertStatus is the JSON form of the status of one certificate.
type ReportedCertStatus struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Issuer string `json:"issuer,omitempty"` // empty for self-signed
	// State is "ok", or what the strongest reason of the plan comes to: one of
	// the words in states, "not yet valid", or "failed" for what could not be read
	// or planned.
	State   string             `json:"state"`
	Reasons []reconcile.Reason `json:"reasons,omitempty"`
	Error   string             `json:"error,omitempty"`
	Hint    string             `json:"hint,omitempty"`

	Fingerprint string    `json:"fingerprint,omitempty"`
	NotBefore   time.Time `json:"notBefore,omitzero"`
	NotAfter    time.Time `json:"notAfter,omitzero"`
	// ExpiresInSeconds is negative once expired, and null without a certificate.
	ExpiresInSeconds *int64    `json:"expiresInSeconds"`
	RenewAt          time.Time `json:"renewAt,omitzero"`

	// Request is what a remote issuer was asked for and has not answered yet.
	Request *reconcile.ItemRequest `json:"request,omitempty"`

	Outputs  []StatusOutput   `json:"outputs"`
	Altered  []pki.Difference `json:"altered,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`
}

// StatusOutput is one place that a certificate is written to.
type StatusOutput struct {
	Form      spec.Form `json:"form"`
	Path      string    `json:"path"`
	Directory string    `json:"directory,omitempty"`
	Object    string    `json:"object,omitempty"` // in a cluster
}

const (
	statusVersion = 1

	stateOK     = "ok"
	stateFailed = "failed"
	stateEarly  = "not yet valid"
)

// states are what the reasons of a plan are as states.
var states = map[reconcile.ReasonCode]string{
	reconcile.Missing:       "missing",
	reconcile.Malformed:     "malformed",
	reconcile.KeyMismatch:   "mismatch",
	reconcile.Expired:       "expired",
	reconcile.IssuerChanged: "changed",
	reconcile.SpecChanged:   "changed",
	reconcile.RenewalDue:    "renewal due",
	reconcile.OutputDrift:   "drift",
	reconcile.Pending:       "pending",
	reconcile.Denied:        "denied",
	reconcile.Failed:        "failed",
}

// stateOf names the state that an item of a plan tells of. Its reasons are
// sorted, strongest first. That a certificate is not valid yet is no reason to do
// anything, but worse than what makes it no less valid.
func stateOf(it *reconcile.Item, now time.Time) string {
	switch {
	case it.Has(reconcile.Denied):
		return states[reconcile.Denied]
	case it.Error != "":
		return stateFailed
	case it.Action == reconcile.ActionWait:
		return states[reconcile.Pending] // for what, the reasons tell
	}
	early := it.NotBefore.After(now)
	for _, r := range it.Reasons {
		if s := states[r.Code]; s != "" && !(early && (r.Code == reconcile.RenewalDue || r.Code == reconcile.OutputDrift)) {
			return s
		}
	}
	if early {
		return stateEarly
	}
	return stateOK
}

// Status makes the report of a plan that was made of spec and state, without
// options that ask for something to be done.
func Status(sp *spec.Spec, p *reconcile.Plan) StatusReport {
	r := StatusReport{FormatVersion: statusVersion, Time: p.Created, Counts: map[string]int{},
		Certificates: make([]ReportedCertStatus, 0, len(p.Items))}
	for i := range p.Items {
		it := &p.Items[i]
		s := ReportedCertStatus{Kind: string(it.Kind), Name: it.Name, Issuer: it.Issuer,
			State: stateOf(it, p.Created), Reasons: it.Reasons, Error: it.Error, Hint: it.Hint,
			Fingerprint: it.Fingerprint, NotBefore: it.NotBefore, NotAfter: it.NotAfter, RenewAt: it.RenewAt,
			Request: it.Request, Outputs: []StatusOutput{}, Altered: it.Altered, Warnings: it.Warnings}
		if !it.NotAfter.IsZero() {
			left := int64(it.NotAfter.Sub(p.Created) / time.Second)
			s.ExpiresInSeconds = &left
		}
		if c := sp.Find(it.ID()); c != nil {
			for _, o := range c.Outputs {
				out := StatusOutput{Form: o.Form, Path: o.Path, Directory: o.Dir}
				if o.Object != nil {
					out.Object = o.Object.String()
				}
				s.Outputs = append(s.Outputs, out)
			}
		}
		r.Counts[s.State]++
		r.Certificates = append(r.Certificates, s)
	}
	return r
}

// StatusTable writes a report as a table; a wide one has everything in it. Paths
// below dir are shown relative to it.
func StatusTable(w io.Writer, r StatusReport, wide bool, dir string) error {
	header := []string{"NAME", "ISSUER", "STATE", "EXPIRES", "RENEWS AT", "OUTPUTS"}
	if wide {
		header = []string{"KIND", "NAME", "ISSUER", "STATE", "EXPIRES", "RENEWS AT", "FINGERPRINT", "OUTPUTS"}
	}
	t := table{rows: [][]string{header}}
	for i := range r.Certificates {
		c := &r.Certificates[i]
		row := []string{c.Name, dash(c.Issuer), c.State, expires(c.NotAfter, r.Time), date(c.RenewAt), outputs(c, wide, dir)}
		if wide {
			row = slices.Concat([]string{kindName(spec.Kind(c.Kind))}, row[:5], []string{dash(c.Fingerprint), row[5]})
		}
		t.rows = append(t.rows, row)
	}
	out := bufio.NewWriter(w)
	p := newPainter(w)
	t.write(out, func(row, column int, cell string) string {
		switch {
		case row == 0:
			return p.paint(bold, cell)
		case header[column] == "STATE":
			return p.paint(stateColour(r.Certificates[row-1].State), cell)
		}
		return cell
	})
	return out.Flush()
}

// StatusRequests writes under a table what waits for somebody, and the command with
// which it is approved.
func StatusRequests(w io.Writer, r StatusReport) error {
	out := bufio.NewWriter(w)
	first := true
	for i := range r.Certificates {
		c := &r.Certificates[i]
		if c.Request == nil || c.Error != "" {
			continue
		}
		if first {
			fmt.Fprintln(out)
			first = false
		}
		for _, reason := range c.Reasons {
			if reason.Code == reconcile.Pending {
				fmt.Fprintf(out, "%s: %s, made %s\n", spec.ID{Kind: spec.Kind(c.Kind), Name: c.Name}.Title(), reason.Message, distance(c.Request.Since.Sub(r.Time)))
			}
		}
		if c.Request.Approve != "" {
			fmt.Fprintf(out, "  %s\n", c.Request.Approve)
		}
	}
	return out.Flush()
}

// StatusNotes writes what a table has no room for: errors, and warnings.
func StatusNotes(w io.Writer, r StatusReport) {
	for i := range r.Certificates {
		c := &r.Certificates[i]
		title := spec.ID{Kind: spec.Kind(c.Kind), Name: c.Name}.Title()
		if c.Error != "" {
			Error(w, fmt.Errorf("%s: %s", title, c.Error))
			if c.Hint != "" {
				fmt.Fprintf(w, "hint: %s\n", c.Hint)
			}
		}
		for _, warning := range c.Warnings {
			fmt.Fprintf(w, "warning: %s: %s\n", title, warning)
		}
	}
}

func stateColour(state string) string {
	switch state {
	case stateOK:
		return green
	case "renewal due", "drift", "pending":
		return yellow
	}
	return red
}

// outputs shows the first output and how many there are besides, or all.
func outputs(c *ReportedCertStatus, all bool, dir string) string {
	var paths []string
	for _, o := range c.Outputs {
		path := o.Path
		if o.Object != "" {
			path = o.Object
		} else if o.Directory != "" {
			path = o.Directory
		}
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			path = rel
		}
		if o.Directory != "" {
			path += "/"
		}
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	switch {
	case len(paths) == 0:
		return "-"
	case all || len(paths) == 1:
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s +%d", paths[0], len(paths)-1)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

// expires says when something ends, and in how long.
func expires(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", date(t), distance(t.Sub(now)))
}

// distance says how far away a time is, in the largest unit of which there are
// at least two.
func distance(d time.Duration) string {
	format := "in %s"
	if d < 0 {
		format, d = "%s ago", -d
	}
	s := "less than a minute"
	switch {
	case d >= 2*spec.Day:
		s = fmt.Sprintf("%dd", d/spec.Day)
	case d >= 2*time.Hour:
		s = fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute:
		s = fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf(format, s)
}
