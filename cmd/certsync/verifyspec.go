package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// verifySpec verifies the spec's certificates: what a plan finds wrong with them
// is wrong, but for a renewal that is due, which is work and no fault. What a
// plan does not do is to validate the chain as a peer would, for each name and
// usage.
func (a *app) verifySpec(ctx context.Context, names []string, json bool) error {
	sp, store, state, err := a.look(ctx)
	if err != nil {
		return err
	}
	now := a.now()
	p, err := reconcile.Diff(sp, state, reconcile.Options{Names: names}, now)
	if err != nil && len(names) > 0 {
		err = withHint(err, "a file is verified with --trust ROOT CERT")
	}
	if err != nil {
		return err
	}
	v := specVerifier{spec: sp, outputs: a.backends(store), now: now, issuers: map[string]issuerCert{}}
	report := view.VerifyReport{FormatVersion: view.VerifyVersion, Time: now}
	for i := range p.Items {
		report.Add(v.verify(ctx, &p.Items[i]))
	}
	if json {
		err = view.JSON(a.stdout, report)
	} else {
		err = view.Verified(a.stdout, report)
	}
	switch {
	case err != nil:
		return err
	case report.Failed > 0:
		return errReported
	}
	return nil
}

// specVerifier validates chains from what is on disk.
type specVerifier struct {
	spec    *spec.Spec
	outputs reconcile.Backends
	now     time.Time
	issuers map[string]issuerCert
}

// issuerCert is the certificate of an issuer, or why it is not there.
type issuerCert struct {
	cert *x509.Certificate
	err  error
}

func (v *specVerifier) verify(ctx context.Context, it *reconcile.Item) view.VerifiedCertificate {
	out := view.VerifiedCertificate{Kind: string(it.Kind), Name: it.Name, Issuer: it.Issuer,
		Fingerprint: it.Fingerprint, NotAfter: it.NotAfter, Problems: []string{}}
	if it.Error != "" {
		out.Problems = append(out.Problems, it.Error)
	}
	for _, r := range it.Reasons {
		switch r.Code {
		case reconcile.RenewalDue, reconcile.Requested, reconcile.Pending:
			continue // what is there may be in order all the same
		case reconcile.Denied, reconcile.Failed:
			continue // the error tells
		}
		problem := r.Message
		for _, d := range r.Differences {
			problem += "; " + d.String()
		}
		out.Problems = append(out.Problems, problem)
	}
	// A chain that leads from nothing, or from what expired, has nothing to add.
	if it.Fingerprint == "" || it.Has(reconcile.Expired) || it.Has(reconcile.Malformed) {
		return out
	}
	chain, err := v.validate(ctx, v.spec.Find(it.ID()))
	if err != nil {
		out.Problems = append(out.Problems, strings.Split(err.Error(), "\n")...)
	}
	for _, c := range chain {
		out.Chain = append(out.Chain, pki.SubjectString(c.Subject))
	}
	return out
}

// validate finds a chain to the spec's root for every name and purpose.
func (v *specVerifier) validate(ctx context.Context, c *spec.Certificate) ([]*x509.Certificate, error) {
	presented, err := v.presented(ctx, c)
	if err != nil {
		return nil, err
	}
	o := pki.VerifyOptions{Untrusted: presented[1:], At: v.now}
	if i := v.spec.Issuer(c.Issuer); i != nil && i.Remote() {
		if i.Kubernetes.CA == "" && !i.Kubernetes.BuiltIn() {
			return presented, nil // what it should chain to is not known
		}
		if o.Trust, err = v.outputs.Anchors(ctx, i); err != nil {
			return nil, fmt.Errorf("issuer %q: %w", i.Name, err)
		}
		return v.chains(c, presented[0], o)
	}
	root, above, err := v.above(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.Issuer == "" {
		root = presented[0]
	}
	o.Trust = []*x509.Certificate{root}
	// Who has the certificate alone gets the intermediates from the spec; a chain
	// that is written somewhere has to do.
	if !slices.ContainsFunc(c.Outputs, func(o spec.Output) bool {
		return o.Form == spec.FormChain || o.Form.HoldsLeaf() && o.Form != spec.FormCertificate
	}) {
		o.Untrusted = above
	}
	return v.chains(c, presented[0], o)
}

func (v *specVerifier) chains(c *spec.Certificate, leaf *x509.Certificate, o pki.VerifyOptions) ([]*x509.Certificate, error) {
	chains, err := pki.Verify(leaf, o)
	if err != nil {
		return nil, err
	}
	var errs []error
	if c.CA == nil {
		errs = v.validatePurposes(c, leaf, o)
	}
	return chains[0], errors.Join(errs...)
}

func (v *specVerifier) validatePurposes(c *spec.Certificate, leaf *x509.Certificate, o pki.VerifyOptions) []error {
	var errs []error
	for _, purpose := range purposes(c) {
		o.Purpose = purpose
		if _, err := pki.Verify(leaf, o); err != nil {
			errs = append(errs, fmt.Errorf("as a %s: %w", purpose, err))
		}
	}
	o.Purpose = pki.PurposeAny
	for _, name := range hostNames(c) {
		o.Name = name
		if _, err := pki.Verify(leaf, o); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func purposes(c *spec.Certificate) []string {
	var list []string
	if slices.Contains(c.Usages, spec.UsageServerAuth) {
		list = append(list, pki.PurposeServer)
	}
	if slices.Contains(c.Usages, spec.UsageClientAuth) {
		list = append(list, pki.PurposeClient)
	}
	return list
}

// hostNames are the names that a peer may ask for. For a wildcard that is any
// label in its place; URIs and e-mail addresses are no hosts, the comparison with
// the spec covers them.
func hostNames(c *spec.Certificate) []string {
	var names []string
	for _, n := range c.DNSNames {
		names = append(names, strings.Replace(n, "*.", "any.", 1))
	}
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	return names
}

// presented reads the certificate and the intermediates that its outputs hold.
func (v *specVerifier) presented(ctx context.Context, c *spec.Certificate) ([]*x509.Certificate, error) {
	var leaf *x509.Certificate
	var rest []*x509.Certificate
	for _, o := range c.Outputs {
		if !o.Form.HoldsLeaf() && o.Form != spec.FormChain || o.Object != nil && leaf != nil {
			continue // a cluster is asked for what no file tells; what differs there, the plan tells
		}
		seen, err := v.outputs.Read(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Field(), err)
		}
		certs, err := v.outputs.ParseCertificates(o, seen.Data)
		switch {
		case !seen.Exists, errors.Is(err, pki.ErrNoCertificate):
			continue // what is missing, the plan tells
		case err != nil && (o.Form.IsKeystore() || o.Form.IsKubeconfig()):
			continue // the same; other outputs may do
		case err != nil:
			return nil, fmt.Errorf("%s: read %s: %w", o.Field(), o.Path, err)
		case o.Form == spec.FormChain:
			rest = append(rest, certs...)
			continue
		case leaf == nil:
			leaf = certs[0]
		}
		rest = append(rest, certs[1:]...)
	}
	if leaf == nil {
		return nil, errors.New("no certificate to verify")
	}
	return append([]*x509.Certificate{leaf}, rest...), nil
}

// above returns the root of the spec over c, and the intermediates between.
func (v *specVerifier) above(ctx context.Context, c *spec.Certificate) (root *x509.Certificate, intermediates []*x509.Certificate, err error) {
	for c.Issuer != "" {
		name := c.Issuer
		c = v.spec.Issuer(name).CA
		known, ok := v.issuers[name]
		if !ok {
			certs, err := v.presented(ctx, c)
			if known.err = err; err == nil {
				known.cert = certs[0]
			}
			v.issuers[name] = known
		}
		if known.err != nil {
			return nil, nil, fmt.Errorf("issuer %q: %w", name, known.err)
		}
		if c.Issuer == "" {
			return known.cert, intermediates, nil
		}
		intermediates = append(intermediates, known.cert)
	}
	return nil, nil, nil
}
