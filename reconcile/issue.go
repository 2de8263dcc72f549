package reconcile

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// issue obtains a certificate and builds the set that holds it.
func (a *applier) issue(ctx context.Context, t *task) error {
	c, st := t.cert, a.state.Of(t.cert.ID)
	if err := a.checkPasswords(c); err != nil {
		return err
	}
	key, err := a.key(ctx, t.item, c, st)
	if err != nil {
		return err
	}
	var req pki.Request
	if previous := st.cert; previous != nil && key.Matches(previous) {
		req, err = pki.NewSuccessor(c, key, previous, a.options.Now())
	} else {
		req, err = pki.NewRequest(c, key, a.options.Now())
	}
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	chain, up, err := a.sign(ctx, c, req, key)
	if err != nil {
		return err
	}
	var issuer *x509.Certificate
	m := pki.Material{Key: key, Chain: chain}
	if up != nil {
		issuer, m.Anchor = up.cert, up.anchor
	} else {
		issuer, m.Anchor = chain[0], chain[0]
	}
	if err := pki.CheckAnswer(req, chain, issuer); err != nil {
		return fmt.Errorf("issuer %q answered with a certificate that is not acceptable: %w", c.Issuer, err)
	}
	return a.fill(ctx, t, st, req, m, issuer, up)
}

// fill builds the set for a certificate that was issued. signer is the certificate
// whose key signed it, as far as it is known, up what the spec has above it.
func (a *applier) fill(ctx context.Context, t *task, st *CertState, req pki.Request, m pki.Material, signer *x509.Certificate, up *authority) (err error) {
	c := t.cert
	t.issued = m.Chain[0]
	t.result.Fingerprint = pki.CertificateFingerprint(t.issued).String()
	t.result.NotAfter = t.issued.NotAfter
	t.compare(req, up)

	outputs := a.writable(t)
	t.set = Set{ID: c.ID, Archive: outputs}
	if st.Leaf == nil && st.Key == nil && !anyExists(st) {
		t.set.Archive = nil
	}
	if t.set.Write, err = a.files(ctx, c, m, outputs); err != nil {
		return err
	}
	t.set.Record = a.record(c, st, t.set.Write, true)
	t.set.Write = changed(c, st, t.set.Write)
	t.set.Record.Source = c.Source
	t.set.Record.Issuer, t.set.Record.SpecDigest = c.Issuer, c.Digest()
	t.set.Record.Fingerprint, t.set.Record.Key = t.result.Fingerprint, m.Key.Fingerprint().String()
	t.set.Record.IssuerKey = ""
	if signer != nil {
		t.set.Record.IssuerKey = pki.KeyFingerprint(signer).String()
	}
	t.set.Record.Remote = nil
	t.set.Record.IssuedAt = req.Now.UTC().Truncate(time.Second)
	t.set.Record.Duration = c.Duration.String()
	t.set.Record.Altered = t.result.Altered
	a.part(t, st)
	if st.remote != nil && st.remote.pending != nil {
		a.answers(t)
	}
	return nil
}

// sign gets the request answered, by the issuer or by the new key itself.
func (a *applier) sign(ctx context.Context, c *spec.Certificate, req pki.Request, key *pki.Key) (pki.Chain, *authority, error) {
	if c.Issuer == "" {
		cert, err := pki.SelfSign(req, key)
		return pki.Chain{cert}, nil, err
	}
	up := a.authorities[c.Issuer]
	if up.err != nil {
		return nil, nil, fmt.Errorf("issuer %q %w", c.Issuer, up.err)
	}
	if up.broken != nil {
		return nil, nil, fmt.Errorf("nothing is issued that does not chain: issuer %q %w", c.Issuer, up.broken)
	}
	answer, err := up.issuer.Issue(ctx, req)
	if err != nil {
		return nil, nil, fmt.Errorf("issuer %q: %w", c.Issuer, err)
	}
	if len(answer) == 0 {
		return nil, nil, fmt.Errorf("issuer %q answered without a certificate", c.Issuer)
	}
	// A CA of this spec has its chain in the spec too, and that is the one that
	// the outputs are compared with.
	return append(pki.Chain{answer[0]}, up.chain...), up, nil
}

// compare notes what the issuer altered. A lifetime that the CA's own end cut
// off is a warning: the plan knows of it without a record.
func (t *task) compare(req pki.Request, up *authority) {
	have, want := pki.IdentityOf(t.issued), pki.Wanted(t.cert)
	t.result.Altered = pki.Compare(&have, &want)
	lifetime := t.issued.NotAfter.Sub(req.Now)
	if (lifetime - req.Duration).Abs() <= time.Minute {
		return
	}
	if up == nil { // the answer may be old by now, and an issuer may count from when it backdates to
		whole := t.issued.NotAfter.Sub(t.issued.NotBefore)
		if whole >= req.Duration-time.Minute && whole <= req.Duration+pki.Backdate+time.Minute {
			return
		}
		if lifetime > 10*time.Minute {
			lifetime = lifetime.Round(time.Minute) // what it took to fetch it says nothing
		}
	}
	if up != nil && lifetime < req.Duration && !t.issued.NotAfter.Before(up.cert.NotAfter) {
		t.result.Warnings = append(t.result.Warnings, fmt.Sprintf("lives until %s only, as long as issuer %q", stamp(t.issued.NotAfter), t.cert.Issuer))
		return
	}
	t.result.Altered = append(t.result.Altered, pki.Difference{Field: "duration",
		From: spec.FormatDuration(lifetime.Round(time.Second)), To: spec.FormatDuration(req.Duration)})
}
