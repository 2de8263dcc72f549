package reconcile

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// remoteState is what was found of a certificate's remote issuer and of the
// request that it was sent.
type remoteState struct {
	issuer *spec.Issuer // nil if the issuer is not remote, and only a request is left
	// pending is the request that was made, without its key; nil for none.
	pending *PendingRequest
	// live tells that the request is for what the spec wants now, and that its
	// answer would be of use.
	live bool
	// answer is what became of a live request, unless err tells why that is not
	// known. approval is the command to approve it.
	answer   Answer
	approval string
	err      error

	// chain are the intermediates of the certificate that is there, anchor the CA
	// above them; nil if no output needs it.
	chain  []pki.Fingerprint
	anchor *x509.Certificate
}

// requests gathers the pending requests of a spec's certificates.
func (o *observer) requests(ctx context.Context, sp *spec.Spec) error {
	o.opener = newOpener(o.Backends)
	o.remotes = remoteIssuers(sp)
	store, err := o.pendingStore()
	if err != nil {
		if len(o.remotes) == 0 {
			return nil
		}
		return err
	}
	if o.pending, err = store.ListPending(ctx); err != nil {
		return fmt.Errorf("list pending requests: %w", err)
	}
	return nil
}

// remote observes what c has from a remote issuer, or has asked for. Of outputs
// and leaf s knows already.
func (o *observer) remote(ctx context.Context, c *spec.Certificate, s *CertState, leaf *x509.Certificate) {
	issuer := o.remotes[c.Issuer]
	_, asked := slices.BinarySearchFunc(o.pending, c.ID, compareIDs)
	if issuer == nil && !asked {
		return
	}
	r := &remoteState{issuer: issuer}
	s.remote = r
	if asked {
		r.pending, r.err = o.pendingOf(ctx, c.ID)
		r.live = issuer != nil && (r.err != nil || r.pending != nil && r.pending.answers(c, issuer, s))
	}
	if issuer == nil || leaf == nil {
		return
	}
	chain := pki.Chain{leaf}
	above, err := o.above(ctx, c, s)
	if err != nil {
		s.Err = alsoErr(s.Err, err)
		return
	}
	chain = append(chain, above...)
	for i, out := range c.Outputs {
		if !ofCluster(out) {
			continue
		}
		servers, err := o.opener.serverCA(ctx, issuer)
		if err != nil {
			s.Err = alsoErr(s.Err, fmt.Errorf("%s: %w", out.Field(), err))
			return
		}
		for _, cert := range servers {
			s.Outputs[i].ServerCA = append(s.Outputs[i].ServerCA, pki.CertificateFingerprint(cert))
		}
	}
	for _, cert := range chain[1:] {
		r.chain = append(r.chain, pki.CertificateFingerprint(cert))
	}
	if !anchored(c, issuer) {
		return
	}
	anchors, err := o.opener.anchorsOf(ctx, issuer)
	if err != nil {
		s.Err = alsoErr(s.Err, err)
		return
	}
	r.anchor, s.IssuerErr = anchorOf(chain, anchors)
}

// orphanedRequests adds the requests for certificates that are not in the spec.
func (o *observer) orphanedRequests(ctx context.Context, sp *spec.Spec, found []orphan) []orphan {
	for _, id := range o.pending {
		if sp.Find(id) != nil {
			continue
		}
		i := slices.IndexFunc(found, func(f orphan) bool { return f.id == id })
		if i < 0 {
			i = len(found)
			found = append(found, orphan{id: id, gone: true})
		}
		f := &found[i]
		p, err := o.pendingOf(ctx, id)
		if err != nil {
			f.err = alsoErr(f.err, fmt.Errorf("read the pending request: %w", err))
		}
		f.pending = p
		if f.record == nil {
			f.record = &Record{}
			if p != nil {
				f.record.Source = p.Source
			}
		}
	}
	return found
}

// ofCluster tells whether an output holds the CA of the issuer's cluster: a
// kubeconfig leads to where its certificate is from, if it says nothing else.
func ofCluster(o spec.Output) bool { return o.Form.IsKubeconfig() && o.Kubeconfig.CA == "" }

func compareIDs(a, b spec.ID) int {
	if a.Kind != b.Kind {
		if a.Kind < b.Kind {
			return -1
		}
		return 1
	}
	switch {
	case a.Name < b.Name:
		return -1
	case a.Name > b.Name:
		return 1
	}
	return 0
}

// pendingOf reads a request without its key.
func (b Backends) pendingOf(ctx context.Context, id spec.ID) (*PendingRequest, error) {
	store, err := b.pendingStore()
	if err != nil {
		return nil, err
	}
	p, err := store.Pending(ctx, id)
	if err != nil || p == nil {
		return nil, err
	}
	public := *p
	if len(p.Key) > 0 {
		public.Key = Secret{} // that there is one is all that matters
	}
	return &public, nil
}

// answers tells whether the request is for what the spec wants, its answer was
// not taken in already, and the key that it is for is there.
func (p *PendingRequest) answers(c *spec.Certificate, i *spec.Issuer, s *CertState) bool {
	switch {
	case p.Want != want(c, i):
		return false
	case s.settled() && s.Record.Remote != nil && s.Record.Remote.Request == p.Request:
		return false
	case p.Key == nil:
		return s.Key != nil && s.Key.Fingerprint.String() == p.PublicKey
	}
	return true
}

// above returns the intermediates of the certificate that is there: those that
// came with it, or else what the outputs hold.
func (b Backends) above(ctx context.Context, c *spec.Certificate, s *CertState) (pki.Chain, error) {
	if !s.settled() || s.Record.Remote == nil {
		return b.intermediates(ctx, c, s)
	}
	var chain pki.Chain
	for _, der := range s.Record.Remote.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the chain in the record: %w", err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// intermediates returns the longest chain above the leaf that any output holds.
func (b Backends) intermediates(ctx context.Context, c *spec.Certificate, s *CertState) (pki.Chain, error) {
	best, from := 0, -1
	for i := range s.Outputs {
		o := s.output(c, i)
		n := len(s.Outputs[i].Certs)
		if o.Form.HoldsLeaf() {
			n--
			if n >= 0 && s.Outputs[i].Certs[0] != s.Leaf.Fingerprint {
				continue
			}
		} else if o.Form != spec.FormChain {
			continue
		}
		if n > best {
			best, from = n, i
		}
	}
	if from < 0 {
		return nil, nil
	}
	o := s.output(c, from)
	seen, err := b.Read(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Field(), err)
	}
	certs, err := b.ParseCertificates(o, seen.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", o.Field(), o.Path, err)
	}
	if o.Form.HoldsLeaf() {
		certs = certs[1:]
	}
	return certs, nil
}

// maxRequests bounds how many requests are under way at once.
const maxRequests = 16

// lookups asks what became of the live requests. It is the only part of observing
// for which an issuer is asked, and none is if nothing is pending.
func (o *observer) lookups(ctx context.Context, sp *spec.Spec, s *State) {
	var asked []*remoteState
	for _, id := range o.pending {
		if c := sp.Find(id); c != nil {
			if r := s.certs[id].remote; r != nil && r.live && r.err == nil {
				asked = append(asked, r)
			}
		}
	}
	limited(len(asked), maxRequests, func(i int) { o.lookup(ctx, asked[i]) })
}

func (o *observer) lookup(ctx context.Context, r *remoteState) {
	if refused := r.pending.Refused; refused != nil {
		r.answer = Answer{State: refused.State, Reason: refused.Reason, Message: refused.Message, UID: r.pending.UID, Since: r.pending.SentAt}
		return
	}
	remote, err := o.opener.remote(ctx, r.issuer)
	if err != nil {
		r.err = err
		return
	}
	sent, err := r.pending.sent(time.Time{})
	if err != nil {
		r.err = err
		return
	}
	r.approval = remote.Approval(r.pending.Request)
	answer, err := remote.Lookup(ctx, sent)
	if err != nil {
		r.err = fmt.Errorf("issuer %q: look up the request %s: %w", r.issuer.Name, r.pending.Request, err)
		return
	}
	r.answer = answer
}

// limited calls f for 0 ≤ i < n, at most limit of them at once.
func limited(n, limit int, f func(i int)) {
	slots := make(chan struct{}, limit)
	for i := range n {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			f(i)
		}()
	}
	for range limit {
		slots <- struct{}{}
	}
}

// digest sums up what is pending.
func (r *remoteState) digest(w io.Writer) {
	if r == nil {
		return
	}
	if p := r.pending; p != nil {
		fmt.Fprintf(w, "pending %s %s %t %s %d %s\n", p.Request, p.UID, r.live, p.Want, p.Sent, r.answer.State)
	}
	if r.err != nil {
		fmt.Fprintf(w, "pending error %s\n", r.err)
	}
	fmt.Fprintf(w, "chain %x\n", r.chain)
	if r.anchor != nil {
		f := pki.CertificateFingerprint(r.anchor)
		fmt.Fprintf(w, "anchor %s\n", f)
	}
}

// lineage is what stands above the certificate that is there.
func (r *remoteState) lineage() *lineage {
	l := &lineage{chain: r.chain, remote: true}
	if r.anchor != nil {
		l.anchor = pki.CertificateFingerprint(r.anchor)
	} else {
		l.unknownAnchor = true
	}
	return l
}
