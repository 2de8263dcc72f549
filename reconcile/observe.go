package reconcile

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Backends are what the engine works with.
type Backends struct {
	Store Store
	// Objects need not be set for a spec without outputs in clusters.
	Objects ObjectStore
	// OpenIssuer returns what signs for an issuer of the spec. For a CA it is
	// called with the CA's certificate, after that was committed.
	OpenIssuer func(ctx context.Context, i *spec.Issuer, ca *x509.Certificate) (Issuer, error)
	// OpenRemote returns what signs for a remote issuer of the spec. It need not be
	// set for a spec that has none.
	OpenRemote func(ctx context.Context, i *spec.Issuer) (Remote, error)
	// Anchors returns the CAs that the certificates of a remote issuer chain to.
	Anchors func(ctx context.Context, i *spec.Issuer) ([]*x509.Certificate, error)
	// ClusterCA returns the CAs of the servers of a remote issuer's cluster.
	ClusterCA func(ctx context.Context, i *spec.Issuer) ([]*x509.Certificate, error)
	// Password returns the password that a reference means.
	Password func(ref *spec.SecretRef) ([]byte, error)
	// Input returns what is in a file that the spec names and that is no output.
	Input func(path string) ([]byte, error)
}

// Observe reads everything that the spec is about: outputs, records, and what
// earlier specs left. An output that cannot be read is an error of its
// certificate (see CertState.Err); the error returned is about the whole.
func Observe(ctx context.Context, sp *spec.Spec, b Backends) (*State, error) {
	ids, err := b.Store.Records(ctx)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	recorded := make(map[spec.ID]bool, len(ids))
	for _, id := range ids {
		recorded[id] = true
	}

	o := observer{Backends: b, sources: sp.Sources, recorded: recorded}
	if err := o.requests(ctx, sp); err != nil {
		return nil, err
	}
	o.objects(ctx, sp)
	s := &State{certs: make(map[spec.ID]*CertState, len(sp.Issuers)+len(sp.Certificates))}
	// Issuers stand after the one that signs them, so that its certificate is
	// there to check theirs against.
	for _, i := range sp.Issuers {
		if i.CA != nil {
			s.certs[i.CA.ID] = o.certificate(ctx, i.CA, s.issuerCert(i.CA))
		}
	}
	leaves := make([]*CertState, len(sp.Certificates))
	parallel(len(leaves), func(i int) {
		c := sp.Certificates[i]
		leaves[i] = o.certificate(ctx, c, s.issuerCert(c))
	})
	for i, c := range sp.Certificates {
		s.certs[c.ID] = leaves[i]
	}
	s.checkShared(sp)
	o.lookups(ctx, sp, s)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.orphans = o.orphans(ctx, sp, s, ids)
	return s, nil
}

// issuerCert returns the certificate of c's issuer as observed, or as it will be
// for the key that is there; nil if c is self-signed or the issuer has neither.
func (s *State) issuerCert(c *spec.Certificate) *x509.Certificate {
	st := s.certs[spec.ID{Kind: spec.KindIssuer, Name: c.Issuer}]
	if st == nil || c.Issuer == "" {
		return nil
	}
	if st.cert == nil {
		return st.heir
	}
	return st.cert
}

// parallel calls f for 0 ≤ i < n, on all processors.
func parallel(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	const chunk = 16
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				end := int(next.Add(chunk))
				for i := end - chunk; i < min(end, n); i++ {
					f(i)
				}
				if end >= n {
					return
				}
			}
		})
	}
	wg.Wait()
}

type observer struct {
	Backends
	sources  []string
	recorded map[spec.ID]bool
	cache    *objectCache

	opener  *opener
	remotes map[string]*spec.Issuer // by name
	pending []spec.ID               // certificates with a request, sorted
}

// certificate observes one certificate of the spec.
func (o *observer) certificate(ctx context.Context, c *spec.Certificate, issuer *x509.Certificate) *CertState {
	s := &CertState{Outputs: make([]OutputState, len(c.Outputs)), keyOutput: -1}
	if err := ctx.Err(); err != nil {
		s.Err = err
		return s
	}
	if o.recorded[c.ID] {
		r, err := o.Store.Record(ctx, c.ID)
		if err != nil {
			s.Err = fmt.Errorf("read record: %w", err)
		}
		s.Record = r
	}
	o.objectStates(ctx, c, s)
	var leaves []*x509.Certificate
	var keys []int
	for i, out := range c.Outputs {
		if out.Object != nil && o.object(ctx, out.Object).Err != nil {
			continue // told once for all that is in it
		}
		// After an error the others are looked at all the same: what a CA's
		// certificate is matters to others, even if its key cannot be read.
		seen, leaf, err := o.output(ctx, c, out, s.Record.has(out.Path))
		s.Err = alsoErr(s.Err, err)
		s.Outputs[i] = seen
		if s.left(out) {
			continue
		}
		if leaf != nil {
			leaves = append(leaves, leaf)
		}
		if seen.Key != nil {
			keys = append(keys, i)
		}
	}
	s.Err = alsoErr(s.Err, s.checkLeft(c))
	leaf := s.choose(leaves, keys)
	if !s.Match && s.Err == nil {
		leaf = o.former(ctx, c, s, leaves, keys)
	}
	for i := range s.Outputs {
		// What cannot be opened may hold the very key that is missed, or, where
		// certsync has not written it, those of somebody else.
		if !s.Match || !s.Record.has(s.output(c, i).Path) {
			s.Err = alsoErr(s.Err, s.Outputs[i].Locked)
		}
	}
	if leaf == nil {
		if c.CA != nil && s.Key != nil && s.Err == nil {
			s.heir, s.Err = o.heir(ctx, c, s)
		}
		o.remote(ctx, c, s, nil)
		return s
	}
	s.Leaf = &Leaf{
		Fingerprint: pki.CertificateFingerprint(leaf),
		Key:         pki.KeyFingerprint(leaf),
		NotBefore:   leaf.NotBefore,
		NotAfter:    leaf.NotAfter,
		Identity:    pki.IdentityOf(leaf),
	}
	if c.Issuer == "" {
		issuer = leaf
	}
	if issuer != nil {
		s.IssuerErr = s.signedBy(leaf, issuer)
	}
	if c.CA != nil {
		s.cert = leaf
	}
	o.remote(ctx, c, s, leaf)
	return s
}

// alsoErr puts two errors into one line: it stands behind the certificate's name.
func alsoErr(first, second error) error {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return fmt.Errorf("%w; %w", first, second)
}

// former looks for the key and certificate where, and as, the record says that they
// were written by an earlier spec: what has moved is written to its new place, and
// not issued anew. So is a keystore to which the spec gives another password.
func (o *observer) former(ctx context.Context, c *spec.Certificate, s *CertState, leaves []*x509.Certificate, keys []int) *x509.Certificate {
	if s.Record != nil && o.foreign(ctx, s.Record) == nil {
		for _, rec := range s.Record.Outputs {
			out := rec.output()
			if readAs(c, out) {
				continue
			}
			seen, leaf, err := o.output(ctx, c, out, true)
			if errors.Is(err, ErrNamespace) {
				continue // it went with its namespace
			}
			s.Err = alsoErr(s.Err, err)
			s.former, s.Outputs = append(s.former, out), append(s.Outputs, seen)
			if leaf != nil {
				leaves = append(leaves, leaf)
			}
			if seen.Key != nil {
				keys = append(keys, len(s.Outputs)-1)
			}
		}
	}
	return s.choose(leaves, keys)
}

// readAs tells whether the certificate has an output at the path of one that was
// recorded, and whether it is read in the same way: a file that has another form
// now, or a keystore its password elsewhere, is still as it was written.
func readAs(c *spec.Certificate, former spec.Output) bool {
	for _, o := range c.Outputs {
		if o.Path != former.Path {
			continue
		}
		if !o.Form.IsKeystore() || !former.Form.IsKeystore() {
			return o.Form.IsKeystore() == former.Form.IsKeystore() && o.Form.IsKubeconfig() == former.Form.IsKubeconfig()
		}
		now, then := o.Keystore.Password, former.Keystore.Password
		return o.Form == former.Form && (now == then || now != nil && then != nil && *now == *then)
	}
	return false
}

// foreign tells why the record belongs to another spec than the one observed:
// the file that declared its certificate is there, but not read.
func (o *observer) foreign(ctx context.Context, r *Record) error {
	if r.Source == "" || slices.Contains(o.sources, r.Source) {
		return nil
	}
	if seen, err := o.Store.Read(ctx, spec.Output{Path: r.Source}); err == nil && !seen.Exists {
		return nil
	}
	return fmt.Errorf("declared in %s, which is not part of this spec", r.Source)
}

// heir returns what a CA whose certificate is lost will be for the key that it
// still has: what it signed is good under a new certificate, too.
func (o *observer) heir(ctx context.Context, c *spec.Certificate, s *CertState) (*x509.Certificate, error) {
	out := s.output(c, s.keyOutput)
	seen, err := o.read(ctx, out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", out.Field(), err)
	}
	key, _, err := o.ParseKey(c, out, seen.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", out.Field(), out.Path, err)
	}
	return pki.Prospective(c, key)
}

// signedBy tells whether issuer signed the leaf. What was verified when the leaf
// was issued is not verified again: signatures are most of the work of a plan in
// which nothing happens.
func (s *CertState) signedBy(leaf, issuer *x509.Certificate) error {
	if s.settled() && s.Record.IssuerKey != "" && s.Record.IssuerKey == pki.KeyFingerprint(issuer).String() {
		return pki.NamesIssuer(leaf, issuer)
	}
	return pki.SignedBy(leaf, issuer)
}
