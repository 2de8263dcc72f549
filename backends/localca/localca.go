// Package localca is an issuer whose private key is a file: a CA that the spec
// owns. It signs what it is asked to within what the CA's certificate allows;
// which requests it is asked is not its business.
package localca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Issuer signs with the key of one CA certificate.
type Issuer struct {
	cert   *x509.Certificate
	signer crypto.Signer
}

var _ reconcile.Issuer = (*Issuer)(nil)

// Reader reads outputs, as reconcile.Store does.
type Reader interface {
	Read(ctx context.Context, o spec.Output) (reconcile.Observation, error)
}

// Open reads the private key of a CA from the first of its outputs that holds
// the key of cert. password returns the password that a reference means; it is
// called only for what is encrypted.
func Open(ctx context.Context, outputs Reader, ca *spec.Certificate, cert *x509.Certificate, password func(*spec.SecretRef) ([]byte, error)) (*Issuer, error) {
	err := errors.New("the spec has no output for its private key")
	for _, o := range ca.Outputs {
		if !o.Form.HoldsKey() {
			continue
		}
		var key *pki.Key
		if key, err = read(ctx, outputs, ca, o, password); err != nil {
			err = fmt.Errorf("read the private key in %s: %w", o.Path, err)
			continue
		}
		if key.Matches(cert) {
			return &Issuer{cert: cert, signer: key.Signer()}, nil
		}
		err = fmt.Errorf("the private key in %s is not that of its certificate", o.Path)
	}
	return nil, err
}

func read(ctx context.Context, outputs Reader, ca *spec.Certificate, o spec.Output, password func(*spec.SecretRef) ([]byte, error)) (*pki.Key, error) {
	seen, err := outputs.Read(ctx, o)
	if err != nil {
		return nil, err
	}
	if !seen.Exists {
		return nil, errors.New("it is not there")
	}
	key, _, err := reconcile.Backends{Password: password}.ParseKey(ca, o, seen.Data)
	return key, err
}

// Issue signs the request. The answer is the certificate alone: the chain above
// it is in the spec.
func (i *Issuer) Issue(_ context.Context, r pki.Request) (pki.Chain, error) {
	cert, err := pki.Sign(r, i.cert, i.signer)
	if err != nil {
		return nil, err
	}
	return pki.Chain{cert}, nil
}
