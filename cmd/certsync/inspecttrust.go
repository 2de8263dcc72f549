package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/cmd/certsync/internal/handshake"
	"github.com/certsync/certsync/cmd/certsync/internal/view"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// trustSet is one thing to trust in.
type trustSet struct {
	title string
	roots []*x509.Certificate // nil for the system's
}

// known is what an endpoint is judged by.
type known struct {
	trust []trustSet
	// intermediates are those of the spec: a server should send its own, so they
	// only tell what it left out.
	intermediates []*x509.Certificate
	identity      *handshake.Identity // nil without --as
}

// knownFor reads the files that flags name, and the spec: one that is asked for,
// or the one that is here. Without --as and -f the latter only adds to what is
// known, so that nothing about it is an error.
func (a *app) knownFor(ctx context.Context, r *endpointRun) (*known, error) {
	k := &known{}
	needed := r.as != "" || len(a.specs) > 0
	if needed || hasDefaultSpec() {
		if err := a.knownFromSpec(ctx, k, r.as, needed); err != nil {
			if needed {
				return nil, err
			}
			view.Notice(a.stderr, "the spec is not used to judge endpoints: "+firstLine(err))
			k = &known{}
		}
	}
	if len(r.trust) > 0 {
		roots, err := readAll(a, r.trust, pki.ParseAnyCertificates)
		if err != nil {
			return nil, err
		}
		k.trust = []trustSet{{"what --trust names", roots}}
		return k, nil
	}
	k.trust = append(k.trust, trustSet{title: "the system's roots"})
	return k, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func hasDefaultSpec() bool {
	_, err := os.Stat(defaultSpec())
	return err == nil
}

func (a *app) knownFromSpec(ctx context.Context, k *known, as string, needed bool) error {
	load := a.load
	if !needed {
		load = a.loadSilently
	}
	sp, err := load()
	if err != nil {
		return err
	}
	store, err := files.Open(a.stateDirectory(sp.Dir), append([]files.Option{files.WithLogger(a.logger())}, a.storeOptions...)...)
	if err != nil {
		return err
	}
	v := specVerifier{spec: sp, outputs: a.backends(store), now: a.now(), issuers: map[string]issuerCert{}}
	var unread []error
	for _, is := range sp.Issuers {
		if is.CA == nil {
			continue
		}
		certs, err := v.presented(ctx, is.CA)
		switch {
		case err != nil:
			unread = append(unread, fmt.Errorf("issuer %q: %w", is.Name, err))
		case is.CA.Issuer == "":
			k.trust = append(k.trust, trustSet{fmt.Sprintf("issuer %q of the spec", is.Name), certs[:1]})
		default:
			k.intermediates = append(k.intermediates, certs[0])
		}
	}
	if as == "" {
		for _, err := range unread {
			view.Notice(a.stderr, "not used to judge endpoints: "+firstLine(err))
		}
		return nil
	}
	k.identity, err = v.identity(ctx, as)
	return err
}

// identity reads what a client has of a certificate of the spec.
func (v *specVerifier) identity(ctx context.Context, name string) (*handshake.Identity, error) {
	c := v.spec.Find(spec.ID{Kind: spec.KindCertificate, Name: strings.TrimPrefix(name, string(spec.KindCertificate)+".")})
	if c == nil {
		return nil, withHint(fmt.Errorf("--as %s: the spec has no certificate of that name", name), "certsync status lists them")
	}
	fail := func(err error) (*handshake.Identity, error) {
		return nil, fmt.Errorf("--as %s: %w", name, err)
	}
	id := &handshake.Identity{Name: c.Name}
	chain, err := v.presented(ctx, c)
	if err != nil {
		return fail(err)
	}
	for _, cert := range chain { // several outputs may hold the same intermediates
		if !slices.ContainsFunc(id.Chain, cert.Equal) {
			id.Chain = append(id.Chain, cert)
		}
	}
	if id.Key, err = v.key(ctx, c); err != nil {
		return fail(err)
	}
	// A spec whose CAs are not there has nothing to compare with.
	if _, above, err := v.above(ctx, c); err == nil {
		id.Missing = slices.DeleteFunc(slices.Clone(above), func(cert *x509.Certificate) bool {
			return slices.ContainsFunc(id.Chain, cert.Equal)
		})
	}
	return id, nil
}

// key reads the first private key that the outputs of a certificate hold.
func (v *specVerifier) key(ctx context.Context, c *spec.Certificate) (*pki.Key, error) {
	for _, o := range c.Outputs {
		if !o.Form.HoldsKey() {
			continue
		}
		seen, err := v.outputs.Read(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Field(), err)
		}
		if !seen.Exists {
			continue
		}
		key, _, err := reconcile.Backends{Password: files.Secret}.ParseKey(c, o, seen.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: read %s: %w", o.Field(), o.Path, err)
		}
		return key, nil
	}
	return nil, withHint(errors.New("there is no private key for it"), "certsync apply makes what is missing")
}

// judge says what a client that verifies would say of a served chain.
func (k *known) judge(chain []*x509.Certificate, name string, now time.Time) *view.EndpointTrust {
	t := &view.EndpointTrust{Name: name}
	if err := pki.VerifyName(chain[0], name); err != nil {
		t.NameProblem = err.Error()
	} else {
		t.NameOK = true
	}
	var titles []string
	for _, set := range k.trust {
		err := set.verify(chain, nil, now)
		if err == nil {
			t.OK, t.By, t.Problem = true, set.title, ""
			return t
		}
		titles = append(titles, set.title)
		if t.Problem == "" {
			t.Problem = err.Error()
		}
		if set.verify(chain, k.intermediates, now) == nil {
			t.By, t.Problem = set.title, err.Error()+"; the server does not send all of its intermediates"
			return t
		}
	}
	t.By = strings.Join(titles, " or ")
	return t
}

// verify verifies a served chain; intermediates are used as if they were served.
func (set trustSet) verify(chain, intermediates []*x509.Certificate, now time.Time) error {
	untrusted := slices.Concat(chain[1:], intermediates)
	o := pki.VerifyOptions{Trust: set.roots, Untrusted: untrusted, Purpose: pki.PurposeServer, At: now}
	if set.roots != nil {
		_, err := pki.Verify(chain[0], o)
		return err
	}
	// Only crypto/x509 knows what the system trusts; the reason is told better here.
	pool := x509.NewCertPool()
	for _, c := range untrusted {
		pool.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Intermediates: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &unknown) || errors.As(err, &invalid) && invalid.Cert == chain[0] {
		if _, better := pki.Verify(chain[0], o); better != nil {
			return better
		}
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "x509: "))
	}
	return nil
}
