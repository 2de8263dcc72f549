package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Action is what a plan does to one certificate.
type Action string

// The actions of a plan.
const (
	ActionNone    Action = "none"
	ActionRepair  Action = "repair"  // the material is fine; outputs are rewritten
	ActionWait    Action = "wait"    // a request is pending
	ActionRenew   Action = "renew"   // valid but due, or expired
	ActionReplace Action = "replace" // what is there does not fit
	ActionCreate  Action = "create"  // nothing is there
	ActionPrune   Action = "prune"   // certsync wrote it, the spec has it no more
)

// Issues tells whether the action obtains a new certificate.
func (a Action) Issues() bool {
	return a == ActionCreate || a == ActionReplace || a == ActionRenew
}

// strength orders the actions that the reasons of one certificate ask for.
func (a Action) strength() int {
	return slices.Index([]Action{ActionNone, ActionRepair, ActionWait, ActionRenew, ActionReplace, ActionCreate}, a)
}

// ReasonCode is the stable name of a reason.
type ReasonCode string

// The reasons, strongest first. Several may hold for one certificate.
const (
	Missing       ReasonCode = "Missing"
	Malformed     ReasonCode = "Malformed"
	KeyMismatch   ReasonCode = "KeyMismatch"
	Expired       ReasonCode = "Expired"
	IssuerChanged ReasonCode = "IssuerChanged"
	SpecChanged   ReasonCode = "SpecChanged"
	RenewalDue    ReasonCode = "RenewalDue"
	OutputDrift   ReasonCode = "OutputDrift"
	Pending       ReasonCode = "Pending"
	Denied        ReasonCode = "Denied"
	Failed        ReasonCode = "Failed"
	Orphaned      ReasonCode = "Orphaned"
	Requested     ReasonCode = "Requested"
)

var precedence = []ReasonCode{
	Missing, Malformed, KeyMismatch, Expired, IssuerChanged, SpecChanged,
	RenewalDue, OutputDrift, Pending, Denied, Failed, Orphaned, Requested,
}

// Reason says why an action is planned.
type Reason struct {
	Code    ReasonCode `json:"code"`
	Message string     `json:"message"`
	// Differences are the fields that differ, for SpecChanged.
	Differences []pki.Difference `json:"differences,omitempty"`

	action Action // what the reason asks for
}

// Options say what a plan is about.
type Options struct {
	// Names narrows the plan to certificates and issuers whose name, or whose
	// path in the spec (issuers.root), matches one of these globs. Empty is all.
	Names []string `json:"names,omitempty"`
	// Replace forces new certificates and keys for what these globs match.
	Replace []string `json:"replace,omitempty"`
	// Prune plans the removal of what the spec has no more.
	Prune bool `json:"prune,omitempty"`
}

// PlanVersion is the version of a plan's JSON form.
const PlanVersion = 1

// Plan is what is to be done, as data. It holds no key material.
type Plan struct {
	FormatVersion int       `json:"formatVersion"`
	Created       time.Time `json:"created"`
	Options       Options   `json:"options"`
	// SpecDigest and StateDigest tell what the plan was made from; they are
	// empty in a plan that was not made to be saved.
	SpecDigest  string `json:"specDigest,omitempty"`
	StateDigest string `json:"stateDigest,omitempty"`
	// Items has every certificate that the plan is about, issuers before what
	// they sign, then what is to be pruned.
	Items  []Item `json:"items"`
	Counts Counts `json:"counts"`
	// Orphans are outputs that certsync wrote and the spec has no more, reported
	// because the plan does not prune.
	Orphans []Item `json:"orphans,omitempty"`
}

// Item is what a plan has to say of one certificate.
type Item struct {
	Kind    spec.Kind `json:"kind"`
	Name    string    `json:"name"`
	Action  Action    `json:"action"`
	Reasons []Reason  `json:"reasons,omitempty"`
	// Error tells why nothing can be planned; Action is none then.
	Error string `json:"error,omitempty"`
	// Hint says how to mend the error; it may be empty.
	Hint string `json:"hint,omitempty"`
	// Issuer is the name of the issuer; empty for self-signed.
	Issuer string `json:"issuer,omitempty"`
	// NewKey tells that the certificate comes with a new private key.
	NewKey bool `json:"newKey,omitempty"`
	// Outputs are the paths that are written, or removed by prune.
	Outputs []string `json:"outputs,omitempty"`
	// Fingerprint, NotBefore, NotAfter and RenewAt describe the certificate
	// that is there now, as far as there is one.
	Fingerprint string    `json:"fingerprint,omitempty"`
	NotBefore   time.Time `json:"notBefore,omitzero"`
	NotAfter    time.Time `json:"notAfter,omitzero"`
	RenewAt     time.Time `json:"renewAt,omitzero"`
	// Request is what a remote issuer was asked for and has not answered yet, or
	// refused.
	Request *ItemRequest `json:"request,omitempty"`
	// Altered is what the issuer gave against the request, which is accepted.
	Altered  []pki.Difference `json:"altered,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`

	err     error                 // what Error was made from
	left    error                 // see Left
	drifted map[*spec.Object]bool // objects whose data is to change
}

// Left returns what is wrong with the certificate still when it is repaired: its
// request was refused, or it is not known what became of that. It is nil for an
// item that does all that the spec asks for, or only waits.
func (i *Item) Left() error { return i.left }

// ItemRequest is a request to a remote issuer.
type ItemRequest struct {
	// Name is what the issuer calls it, UID what tells it from others of the name.
	Name  string       `json:"name"`
	UID   string       `json:"uid,omitempty"`
	State RequestState `json:"state,omitempty"` // empty if it is not known
	Since time.Time    `json:"since,omitzero"`
	// Approve is the command with which a person approves it; empty if there is
	// nothing to approve.
	Approve string `json:"approve,omitempty"`
}

// ID returns the identity of the certificate.
func (i *Item) ID() spec.ID { return spec.ID{Kind: i.Kind, Name: i.Name} }

// Has tells whether a reason of that code holds.
func (i *Item) Has(code ReasonCode) bool {
	return slices.ContainsFunc(i.Reasons, func(r Reason) bool { return r.Code == code })
}

// Counts tells how many items have which action.
type Counts struct {
	Create    int `json:"create"`
	Renew     int `json:"renew"`
	Replace   int `json:"replace"`
	Repair    int `json:"repair"`
	Wait      int `json:"wait"`
	Prune     int `json:"prune"`
	Unchanged int `json:"unchanged"`
	Failed    int `json:"failed"`
}

// Changes tells how many items an apply would act on.
func (c Counts) Changes() int { return c.Create + c.Renew + c.Replace + c.Repair + c.Prune }

// Empty tells whether there is nothing to do and nothing to wait for.
func (p *Plan) Empty() bool { return p.Counts.Changes()+p.Counts.Wait == 0 }

func (p *Plan) count() {
	var c Counts
	for i := range p.Items {
		switch it := &p.Items[i]; {
		case it.Error != "":
			c.Failed++
		case it.Action == ActionCreate:
			c.Create++
		case it.Action == ActionRenew:
			c.Renew++
		case it.Action == ActionReplace:
			c.Replace++
		case it.Action == ActionRepair:
			c.Repair++
		case it.Action == ActionWait:
			c.Wait++
		case it.Action == ActionPrune:
			c.Prune++
		default:
			c.Unchanged++
		}
	}
	p.Counts = c
}

// decide sorts the reasons, strongest first, and returns the action they call for.
func decide(reasons []Reason) Action {
	slices.SortStableFunc(reasons, func(a, b Reason) int {
		return cmp.Compare(slices.Index(precedence, a.Code), slices.Index(precedence, b.Code))
	})
	action := ActionNone
	for _, r := range reasons {
		if r.action.strength() > action.strength() {
			action = r.action
		}
	}
	return action
}
