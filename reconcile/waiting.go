package reconcile

import (
	"errors"
	"fmt"
	"time"
)

// The limits to sending a request again that vanished unanswered: Kubernetes, for
// one, removes what nobody approved in a day.
const (
	maxSent     = 2
	resendAfter = time.Minute
)

// useful tells whether the answer to the request is, or would be, what the spec
// wants. One that expired before anybody fetched it is not.
func (r *remoteState) useful(now time.Time) bool {
	return r != nil && r.live && !(r.answer.State == RequestIssued && !now.Before(r.answer.Chain[0].NotAfter))
}

// waiting tells whether the certificate has a request for which nothing can be done
// now but to wait, or to tell that it was refused: what is there may be repaired
// meanwhile.
func (d *differ) waiting(st *CertState) bool {
	r := st.remote
	switch s := r.answer.State; {
	case r.err != nil, s.waits(), s.refused():
		return true
	case s == RequestAbsent:
		return r.pending.UID != "" && (r.pending.Sent >= maxSent || d.now.Before(r.pending.SentAt.Add(resendAfter)))
	}
	return false
}

// request decides what the request that was made before means for the action
// that the reasons call for.
func (d *differ) request(it *Item, st *CertState) {
	r := st.remote
	if r.pending != nil {
		it.Request = &ItemRequest{Name: r.pending.Request, UID: r.answer.UID, State: r.answer.State, Since: r.answer.Since}
		if it.Request.Since.IsZero() {
			it.Request.Since = r.pending.Created
		}
	}
	if r.err != nil {
		d.cannotTell(it, r.err, errorHint(r.err))
		return
	}
	name := r.pending.Request
	switch r.answer.State {
	case RequestPending:
		it.Request.Approve = r.approval
		d.wait(it, fmt.Sprintf("the request %s waits for approval", name))
	case RequestApproved:
		d.wait(it, fmt.Sprintf("the request %s is approved, but %s has not signed it yet", name, r.issuer.Kubernetes.SignerName))
	case RequestIssued:
		d.goOn(it, st, fmt.Sprintf("the request %s is issued", name))
	case RequestDenied:
		d.refuse(it, Denied, fmt.Sprintf("the request %s was denied%s", name, because(r.answer)))
	case RequestFailed:
		d.refuse(it, Failed, fmt.Sprintf("the signer failed to serve the request %s%s", name, because(r.answer)))
	case RequestAbsent:
		again := r.pending.SentAt.Add(resendAfter)
		switch {
		case r.pending.UID == "":
			d.goOn(it, st, fmt.Sprintf("the request %s is made, but was not sent yet", name))
		case r.pending.Sent >= maxSent:
			d.refuse(it, Failed, fmt.Sprintf("the request %s was removed unanswered, %d times", name, r.pending.Sent))
		case d.now.Before(again):
			d.wait(it, fmt.Sprintf("the request %s was removed unanswered: it is sent again after %s", name, stamp(again)))
		default:
			d.goOn(it, st, fmt.Sprintf("the request %s was removed unanswered: it is sent again", name))
		}
	}
}

func because(a Answer) string {
	s := ""
	if a.Reason != "" {
		s += ": " + a.Reason
	}
	if a.Message != "" {
		s += ": " + a.Message
	}
	return s
}

// wait plans to wait, or to repair what can be repaired meanwhile.
func (d *differ) wait(it *Item, message string) {
	it.Reasons = append(it.Reasons, Reason{Code: Pending, Message: message, action: ActionWait})
	repairs := it.Has(OutputDrift)
	decide(it.Reasons)
	it.Action = ActionWait
	if repairs {
		it.Action = ActionRepair
	}
}

// goOn plans to finish what was asked for. If no other reason tells any more why
// it was, it was a replacement that somebody asked for.
func (d *differ) goOn(it *Item, st *CertState, message string) {
	action := it.Action
	if !action.Issues() {
		action = ActionReplace
		if st.Leaf == nil {
			action = ActionCreate
		}
	}
	it.Reasons = append(it.Reasons, Reason{Code: Pending, Message: message, action: action})
	it.Action = decide(it.Reasons)
	it.NewKey = st.remote.pending.Key != nil
}

// refuse tells that the request was refused. What is there is repaired first.
func (d *differ) refuse(it *Item, code ReasonCode, message string) {
	it.Reasons = append(it.Reasons, Reason{Code: code, Message: message})
	decide(it.Reasons)
	d.cannotTell(it, refusedError(message), askAnew(it.Name))
}

// refusedError is an ErrDenied with a message of its own.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// Is makes it an ErrDenied.
func (e refusedError) Is(target error) bool { return target == ErrDenied }

func askAnew(name string) string {
	return fmt.Sprintf("nothing is asked again until the spec changes; ask anew with --replace %s", name)
}

// cannotTell fails the item, unless there is something to repair.
func (d *differ) cannotTell(it *Item, err error, hint string) {
	if it.Has(OutputDrift) {
		it.Action = ActionRepair
		it.Warnings = append(it.Warnings, err.Error())
		it.left = hintedError{err, hint}
		return
	}
	it.Action, it.Outputs, it.NewKey = ActionNone, nil, false
	it.fail(err, hint)
}

// errorHint returns the advice that an error carries.
func errorHint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// otherSigner tells whether the certificate that is there came from another signer
// than the issuer is now. Only the record knows that.
func (st *CertState) otherSigner() string {
	r := st.remote
	if r == nil || r.issuer == nil || !st.settled() || st.Record.Issuer == "" || st.Record.Remote.by(r.issuer) {
		return ""
	}
	switch was := st.Record.Remote; {
	case was == nil:
		return fmt.Sprintf("it was signed by issuer %q", st.Record.Issuer)
	case was.Signer != r.issuer.Kubernetes.SignerName:
		return fmt.Sprintf("it was signed by %s", was.Signer)
	case was.Cluster == "":
		return "it was signed in another cluster"
	default:
		return fmt.Sprintf("it was signed in the cluster %q", was.Cluster)
	}
}
