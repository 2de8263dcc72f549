package reconcile

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// output observes one output and returns the leaf that it holds, if any. ours
// tells that certsync has written it before.
func (o *observer) output(ctx context.Context, c *spec.Certificate, out spec.Output, ours bool) (OutputState, *x509.Certificate, error) {
	seen, err := o.read(ctx, out)
	if err != nil {
		return OutputState{}, nil, fmt.Errorf("%s: %w", out.Field(), err)
	}
	s := OutputState{Exists: seen.Exists, Drift: seen.Drift, file: seen.File}
	if err := o.serverCA(out, &s); err != nil {
		return s, nil, err
	}
	if !seen.Exists {
		return s, nil, nil
	}
	switch {
	case out.Form.IsKeystore():
		leaf, err := o.keystore(out, seen.Data, &s)
		return s, leaf, err
	case out.Form.IsKubeconfig():
		leaf, err := o.kubeconfig(out, ours, seen.Data, &s)
		if k := s.Kubeconfig; k != nil && !k.HoldsKey && len(k.More) == 0 {
			s.digest = sha256.Sum256(seen.Data) // More may be a token
		}
		return s, leaf, err
	}
	if !out.Form.HoldsKey() {
		s.digest = sha256.Sum256(seen.Data)
	} else if err := o.key(c, seen.Data, &s); err != nil {
		return s, nil, fmt.Errorf("%s: read %s: %w", out.Field(), out.Path, err)
	}
	if out.Form == spec.FormPrivateKey {
		return s, nil, nil
	}
	leaf, err := readCertificates(out.Form, seen.Data, &s)
	switch {
	case errors.Is(err, pki.ErrUnsupported):
		return s, nil, fmt.Errorf("%s: read %s: %w", out.Field(), out.Path, err)
	case err != nil && s.Malformed == "":
		s.Malformed = err.Error()
	}
	return s, leaf, nil
}

// key reads the private key of an output. One that may be intact, but for which
// the password is missing or wrong, or whose form is not supported, is an error:
// it must not cause an issuance.
func (o *observer) key(c *spec.Certificate, data []byte, s *OutputState) error {
	_, info, err := pki.ParseKey(data, o.password(c))
	switch {
	case errors.Is(err, pki.ErrPassword), errors.Is(err, pki.ErrUnsupported):
		return err
	case err != nil:
		s.Malformed = err.Error()
	default:
		s.Key = &info
	}
	return nil
}

// password returns how to get the password of a certificate's key.
func (b Backends) password(c *spec.Certificate) func() ([]byte, error) {
	ref := c.PrivateKey.Password
	if ref == nil {
		return nil
	}
	return func() ([]byte, error) { return b.Password(ref) }
}

// ParseKey reads the private key in the data of an output of c.
func (b Backends) ParseKey(c *spec.Certificate, out spec.Output, data []byte) (*pki.Key, pki.KeyInfo, error) {
	if out.Form.IsKubeconfig() {
		user, err := kubeconfigUser(out, data)
		if err != nil {
			return nil, pki.KeyInfo{}, err
		}
		return user.Key()
	}
	if !out.Form.IsKeystore() {
		return pki.ParseKey(data, b.password(c))
	}
	entry, err := b.keystoreEntry(out, data)
	if err != nil {
		return nil, pki.KeyInfo{}, err
	}
	return entry.Key, entry.Key.Info(), nil
}

// ParseCertificates reads the certificates in the data of an output: of a
// keystore those that belong to its key, of a kubeconfig those of its user.
func (b Backends) ParseCertificates(out spec.Output, data []byte) ([]*x509.Certificate, error) {
	if out.Form.IsKubeconfig() {
		user, err := kubeconfigUser(out, data)
		if err != nil {
			return nil, err
		}
		return user.Chain()
	}
	if !out.Form.IsKeystore() {
		return pki.ParseCertificates(data)
	}
	entry, err := b.keystoreEntry(out, data)
	if err != nil {
		return nil, err
	}
	if len(entry.Chain) == 0 {
		return nil, pki.ErrNoCertificate
	}
	return entry.Chain, nil
}

// readCertificates notes the fingerprints of all certificates in PEM data, and
// returns the first one if the form says that it is the leaf. The others are not
// parsed: a fingerprint is all that they are compared by.
func readCertificates(form spec.Form, data []byte, s *OutputState) (leaf *x509.Certificate, err error) {
	var first []byte
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !pki.IsCertificate(block) {
			continue
		}
		if first == nil {
			first = block.Bytes
		}
		s.Certs = append(s.Certs, sha256.Sum256(block.Bytes))
	}
	if first == nil {
		if form == spec.FormChain && len(data) == 0 {
			return nil, nil // a chain without intermediates is an empty file
		}
		if err := pki.CheckForm(data); err != nil {
			return nil, err
		}
		return nil, pki.ErrNoCertificate
	}
	if !form.HoldsLeaf() {
		return nil, nil
	}
	return x509.ParseCertificate(first)
}
