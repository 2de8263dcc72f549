package reconcile

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// authority is an issuer as it is while a plan is applied.
type authority struct {
	issuer Issuer            // nil until something has to be signed
	cert   *x509.Certificate // of the CA
	chain  pki.Chain         // what follows a certificate that it signed
	anchor *x509.Certificate // the root
	broken error             // why its chain does not hold
	err    error             // why it cannot sign: "issuer "x" " + err is a sentence
}

// openAuthorities makes ready the issuers that tasks need. They stand in earlier
// stages, so their own certificates are committed by now.
func (a *applier) openAuthorities(ctx context.Context, tasks []*task) {
	for _, t := range tasks {
		if t.cert == nil || t.cert.Issuer == "" || a.remoteIssuer(t.cert) != nil {
			continue
		}
		for _, o := range t.cert.Outputs {
			if o.Kubeconfig != nil && o.Kubeconfig.CAIssuer != "" {
				a.authority(o.Kubeconfig.CAIssuer)
			}
		}
		up := a.authority(t.cert.Issuer)
		if up.issuer == nil && up.err == nil && t.item.Error == "" && t.item.Action.Issues() {
			if up.issuer, up.err = a.OpenIssuer(ctx, a.spec.Issuer(t.cert.Issuer), up.cert); up.err != nil {
				up.err = fmt.Errorf("cannot sign: %w", up.err)
			}
		}
	}
}

// authority returns the issuer of that name with its certificate and chain,
// which are those observed unless the plan has replaced them (see settle).
func (a *applier) authority(name string) *authority {
	if known := a.authorities[name]; known != nil {
		return known
	}
	ca := a.spec.Issuer(name).CA
	up := &authority{cert: a.state.Of(ca.ID).cert}
	if up.cert == nil {
		up.err = errors.New("has no certificate")
	}
	a.link(up, ca)
	a.authorities[name] = up
	return up
}

// link fills in what stands above the authority, and checks that it holds: what
// does not chain must not take the place of what does.
func (a *applier) link(up *authority, ca *spec.Certificate) {
	up.broken = nil
	if ca.Issuer == "" {
		up.chain, up.anchor = nil, up.cert
		return
	}
	parent := a.authority(ca.Issuer)
	up.chain = append(pki.Chain{up.cert}, parent.chain...)
	up.anchor = parent.anchor
	switch {
	case up.cert == nil:
	case parent.cert == nil:
		up.broken = fmt.Errorf("has an issuer %q without a certificate", ca.Issuer)
	case parent.broken != nil:
		up.broken = fmt.Errorf("has an issuer %q that %w", ca.Issuer, parent.broken)
	default:
		if err := pki.SignedBy(up.cert, parent.cert); err != nil {
			up.broken = fmt.Errorf("is not signed by its issuer %q: %w", ca.Issuer, err)
		}
	}
}

// settle notes what became of a CA's certificate, for what it signs. One whose
// renewal failed goes on with the certificate that it has; one that was to get a
// new key cannot sign what was planned for that key.
func (a *applier) settle(t *task) {
	up := a.authority(t.item.Name)
	switch {
	case t.issued != nil:
		up.cert, up.err = t.issued, nil
		a.link(up, t.cert)
	case t.item.NewKey || up.cert == nil:
		up.err = errors.New("could not be issued itself") // why is told of it, not of all below
	}
}

// key returns the private key for a new certificate: a new one, or the one that
// the plan keeps.
func (a *applier) key(ctx context.Context, it *Item, c *spec.Certificate, st *CertState) (*pki.Key, error) {
	if !it.NewKey {
		return a.readKey(ctx, c, st)
	}
	k, err := pki.GenerateKey(c.PrivateKey.Algorithm, c.PrivateKey.Size)
	if err != nil {
		return nil, fmt.Errorf("generate a private key: %w", err)
	}
	return k, nil
}

// readKey reads the private key that was observed. Another one in its place is
// an error: the plan was not made for it.
func (a *applier) readKey(ctx context.Context, c *spec.Certificate, st *CertState) (*pki.Key, error) {
	if st.keyOutput < 0 {
		return nil, errors.New("there is no private key")
	}
	o := st.output(c, st.keyOutput)
	seen, err := a.Read(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Field(), err)
	}
	k, info, err := a.ParseKey(c, o, seen.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", o.Field(), o.Path, err)
	}
	if info.Fingerprint != st.Key.Fingerprint {
		return nil, fmt.Errorf("%s: %s has changed since the plan was made", o.Field(), o.Path)
	}
	return k, nil
}

// readLeaf reads the certificate that was observed, from whichever output has it.
func (a *applier) readLeaf(ctx context.Context, c *spec.Certificate, st *CertState) (*x509.Certificate, error) {
	if st.cert != nil {
		return st.cert, nil
	}
	for i := range st.Outputs {
		o := st.output(c, i)
		if !o.Form.HoldsLeaf() && !o.Form.IsKubeconfig() || len(st.Outputs[i].Certs) == 0 || st.Outputs[i].Certs[0] != st.Leaf.Fingerprint {
			continue
		}
		seen, err := a.Read(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Field(), err)
		}
		certs, err := a.ParseCertificates(o, seen.Data)
		if err == nil && pki.CertificateFingerprint(certs[0]) == st.Leaf.Fingerprint {
			return certs[0], nil
		}
	}
	return nil, errors.New("the certificate has changed since the plan was made")
}
