package reconcile

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// signerGrace is how long an apply that does not wait still waits for a signer,
// where nobody has to approve: signers take a moment.
const signerGrace = 10 * time.Second

// split parts the tasks of remote issuers from the others.
func (a *applier) split(tasks []*task) (local, remote []*task) {
	for _, t := range tasks {
		if a.isRemote(t) {
			remote = append(remote, t)
		} else {
			local = append(local, t)
		}
	}
	return local, remote
}

// isRemote tells whether the task is to get something from a remote issuer.
func (a *applier) isRemote(t *task) bool {
	return t.cert != nil && t.item.Error == "" && (t.item.Action.Issues() || t.item.Action == ActionWait) &&
		a.remoteIssuer(t.cert) != nil
}

// remoteIssuer returns the issuer of c if it is a remote one.
func (a *applier) remoteIssuer(c *spec.Certificate) *spec.Issuer {
	return a.remotes[c.Issuer]
}

// remoteIssuers returns the remote issuers of a spec by their names; nil if it has
// none.
func remoteIssuers(sp *spec.Spec) map[string]*spec.Issuer {
	var remotes map[string]*spec.Issuer
	for _, i := range sp.Issuers {
		if i.Remote() {
			if remotes == nil {
				remotes = make(map[string]*spec.Issuer)
			}
			remotes[i.Name] = i
		}
	}
	return remotes
}

// remoteStage carries out the tasks of remote issuers. All of them are under way
// at once, as there is nothing to do but to wait; what is answered is committed
// while others still wait.
func (a *applier) remoteStage(ctx context.Context, tasks []*task) {
	if len(tasks) == 0 {
		return
	}
	slots := make(chan struct{}, maxRequests)
	ready := make(chan *task, len(tasks))
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() {
			t.result.Err = a.obtain(ctx, t, slots)
			ready <- t
		})
	}
	go func() {
		wg.Wait()
		close(ready)
	}()
	for t := range ready {
		batch := []*task{t}
		for more := true; more && len(batch) < batchSize; {
			select {
			case next, ok := <-ready:
				if more = ok; ok {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		answered := make([]*Sent, len(batch))
		for i, t := range batch {
			answered[i] = t.answered
		}
		a.commit(ctx, batch)
		limited(len(batch), maxRequests, func(i int) {
			if answered[i] != nil && batch[i].result.Err == nil {
				a.withdraw(ctx, a.remoteIssuer(batch[i].cert), *answered[i])
			}
		})
	}
}

// obtain brings one task as far as it comes: to where it only has to be committed,
// or to an error that wraps ErrPending.
func (a *applier) obtain(ctx context.Context, t *task, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotStarted, context.Cause(ctx))
	}
	held := true
	release := func() {
		if held {
			held = false
			<-slots
		}
	}
	defer release()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrNotStarted, context.Cause(ctx))
	}
	if err := a.checkPasswords(t.cert); err != nil {
		return err
	}
	i := a.remoteIssuer(t.cert)
	remote, err := a.opener.remote(ctx, i)
	if err != nil {
		return err
	}
	p, key, err := a.requestFor(ctx, t, remote)
	if err != nil {
		return err
	}
	t.result.Request = p.Request
	answer, err := a.ask(ctx, t, i, remote, p)
	if err == nil && answer.State.waits() {
		release()
		answer, err = a.await(ctx, i, remote, p, answer)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w: %s was interrupted, and is for a later apply", ErrPending, p.Request)
	case err != nil:
		return err
	case answer.State == RequestPending:
		t.result.Approve = remote.Approval(p.Request)
	}
	return a.take(ctx, t, i, p, key, answer)
}

// requestFor returns the request that the task is about: the one that is pending,
// if its answer is of use, or a new one, which is durable before anybody is asked.
// The key is nil if the task only waits.
func (a *applier) requestFor(ctx context.Context, t *task, remote Remote) (*PendingRequest, *pki.Key, error) {
	c, st := t.cert, a.state.Of(t.cert.ID)
	store, err := a.pendingStore()
	if err != nil {
		return nil, nil, err
	}
	if st.remote.useful(a.options.Now()) && !t.item.Has(Requested) {
		p, err := store.Pending(ctx, c.ID)
		if err != nil {
			return nil, nil, err
		}
		if p == nil || p.Request != st.remote.pending.Request {
			return nil, nil, errors.New("the pending request has changed since the plan was made")
		}
		key, err := a.pendingKey(ctx, t, p)
		return p, key, err
	}
	key, err := a.key(ctx, t.item, c, st)
	if err != nil {
		return nil, nil, err
	}
	now := a.options.Now()
	req, err := pki.NewRequest(c, key, now)
	if err != nil {
		return nil, nil, fmt.Errorf("make a request: %w", err)
	}
	if st.Leaf != nil {
		req.Replaces = st.Leaf.Fingerprint.String()
	}
	p := &PendingRequest{FormatVersion: PendingVersion, Kind: c.Kind, Name: c.Name, Source: c.Source, Issuer: c.Issuer,
		Want: want(c, a.remoteIssuer(c)), Request: remote.Name(req), CSR: req.CSR, Usages: req.Usages, Duration: req.Duration.String(),
		PublicKey: key.Fingerprint().String(), Created: now.UTC().Truncate(time.Second)}
	if t.item.NewKey {
		var password []byte
		if ref := c.PrivateKey.Password; ref != nil {
			if password, err = a.Password(ref); err != nil {
				return nil, nil, err
			}
		}
		if p.Key, err = key.EncodePEM(spec.PKCS8, password); err != nil {
			return nil, nil, err
		}
	}
	if err := store.SavePending(ctx, p); err != nil {
		return nil, nil, fmt.Errorf("save the request: %w", err)
	}
	if old := st.remote; old != nil && old.pending != nil && old.pending.Request != p.Request {
		a.withdrawPending(ctx, old.pending)
	}
	return p, key, nil
}

// pendingKey returns the key that a request was made for.
func (a *applier) pendingKey(ctx context.Context, t *task, p *PendingRequest) (*pki.Key, error) {
	c, st := t.cert, a.state.Of(t.cert.ID)
	if p.Key == nil {
		return a.readKey(ctx, c, st)
	}
	key, _, err := pki.ParseKey(p.Key, a.password(c))
	if err != nil {
		err = fmt.Errorf("the private key of the pending request %s: %w", p.Request, err)
		return nil, hintedError{err, fmt.Sprintf("make a new request with --replace %s", c.Name)}
	}
	return key, nil
}

// hintedError is an error with advice.
type hintedError struct {
	error
	hint string
}

func (h hintedError) Unwrap() error { return h.error }

// Hint returns how to mend it.
func (h hintedError) Hint() string { return h.hint }

// ask sends the request if the issuer does not have it yet, and notes that it does.
// What Observe learned need not be asked again.
func (a *applier) ask(ctx context.Context, t *task, i *spec.Issuer, remote Remote, p *PendingRequest) (Answer, error) {
	seen := a.state.Of(t.cert.ID).remote
	known := seen.useful(a.options.Now()) && seen.pending.Request == p.Request
	if known && seen.answer.State == RequestIssued {
		return seen.answer, nil
	}
	if t.item.Action.Issues() {
		p.UID = "" // what had it is gone
	}
	sent, err := p.sent(a.options.Now())
	if err != nil {
		return Answer{}, err
	}
	if known && sent.UID == "" {
		sent.UID = seen.answer.UID // it was sent, but nobody lived to note that
	}
	answer, err := remote.Submit(ctx, sent)
	if err != nil {
		return Answer{}, fmt.Errorf("issuer %q: send the request %s: %w", i.Name, p.Request, err)
	}
	if answer.UID != p.UID && answer.UID != "" {
		p.UID, p.SentAt = answer.UID, a.options.Now().UTC().Truncate(time.Second)
		p.Sent++
		if err := a.keep(ctx, p); err != nil {
			return Answer{}, err
		}
	}
	return answer, nil
}

func (a *applier) keep(ctx context.Context, p *PendingRequest) error {
	store, err := a.pendingStore()
	if err == nil {
		// An interrupt does not make it forget what was sent.
		err = store.SavePending(context.WithoutCancel(ctx), p)
	}
	if err != nil {
		return fmt.Errorf("save the request: %w", err)
	}
	return nil
}

// await waits for the answer as long as the options say.
func (a *applier) await(ctx context.Context, i *spec.Issuer, remote Remote, p *PendingRequest, answer Answer) (Answer, error) {
	patience := a.patience(i)
	if patience <= 0 {
		return answer, nil
	}
	sent, err := p.sent(a.options.Now())
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	next, err := remote.Wait(ctx, sent)
	switch {
	case err == nil:
		return next, nil
	case ctx.Err() != nil: // time is up, or an interrupt: it is there for a later run
		return answer, nil
	}
	return Answer{}, fmt.Errorf("issuer %q: wait for the request %s: %w", i.Name, p.Request, err)
}

func (a *applier) patience(i *spec.Issuer) time.Duration {
	switch {
	case a.options.WaitFor > 0:
		return a.options.WaitFor
	case a.options.Wait:
		return i.Kubernetes.Timeout
	case i.Kubernetes.Approve:
		return signerGrace
	}
	return 0
}

// take makes of the answer the set that is to be committed, or the error that it
// comes to.
func (a *applier) take(ctx context.Context, t *task, i *spec.Issuer, p *PendingRequest, key *pki.Key, answer Answer) error {
	switch answer.State {
	case RequestIssued:
	case RequestPending:
		return fmt.Errorf("%w: %s waits for approval", ErrPending, p.Request)
	case RequestApproved:
		return fmt.Errorf("%w: %s is approved, but %s has not signed it yet", ErrPending, p.Request, i.Kubernetes.SignerName)
	case RequestAbsent:
		return fmt.Errorf("%w: %s was removed unanswered; a later apply sends it again", ErrPending, p.Request)
	default:
		return a.refused(ctx, p, answer)
	}
	sent, err := p.sent(a.options.Now())
	if err != nil {
		return err
	}
	if err := a.accept(ctx, t, i, sent.Request, key, p.Request, answer.Chain); err != nil {
		return err
	}
	sent.UID = answer.UID
	t.answered = &sent
	t.staged, err = a.Store.Stage(ctx, t.set)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %s is issued, and is fetched by a later apply", ErrPending, p.Request)
	}
	return err
}

// refused notes for good that the request was refused.
func (a *applier) refused(ctx context.Context, p *PendingRequest, answer Answer) error {
	what := "was denied"
	if answer.State == RequestFailed {
		what = "failed"
	}
	var err error = refusedError(fmt.Sprintf("the request %s %s%s", p.Request, what, because(answer)))
	if p.Refused == nil {
		p.Refused = &Refusal{State: answer.State, Reason: answer.Reason, Message: answer.Message}
		if kept := a.keep(ctx, p); kept != nil {
			err = fmt.Errorf("%w; %w", err, kept)
		}
	}
	return hintedError{err, askAnew(p.Name)}
}

// accept checks an answer against the request, and builds the set that holds it.
func (a *applier) accept(ctx context.Context, t *task, i *spec.Issuer, req pki.Request, key *pki.Key, name string, chain pki.Chain) error {
	c, st := t.cert, a.state.Of(t.cert.ID)
	unacceptable := func(err error) error {
		err = fmt.Errorf("issuer %q answered with a certificate that is not acceptable: %w", c.Issuer, err)
		return hintedError{err, fmt.Sprintf("mend what is wrong, or ask anew with --replace %s", c.Name)}
	}
	if err := pki.CheckAnswer(req, chain, nil); err != nil {
		return unacceptable(err)
	}
	m := pki.Material{Key: key, Chain: chain}
	if anchored(c, i) {
		anchors, err := a.opener.anchorsOf(ctx, i)
		if err != nil {
			return err
		}
		// Some signers send their root along. It is no part of a chain.
		for len(m.Chain) > 1 && isOneOf(m.Chain[len(m.Chain)-1], anchors) {
			m.Chain = m.Chain[:len(m.Chain)-1]
		}
		if m.Anchor, err = anchorOf(m.Chain, anchors); err != nil {
			return unacceptable(fmt.Errorf("it does not chain to the trust anchor: %w", err))
		}
	}
	signer := m.Anchor
	if len(m.Chain) > 1 {
		signer = m.Chain[1]
	}
	if err := a.fill(ctx, t, st, req, m, signer, nil); err != nil {
		return err
	}
	t.set.Record.Remote = recordedRemote(i, name, m.Chain[1:])
	a.answers(t)
	return nil
}

func isOneOf(cert *x509.Certificate, list []*x509.Certificate) bool {
	return slices.ContainsFunc(list, cert.Equal)
}
