package reconcile

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// KeystoreState is what a keystore tells besides its key and chain.
type KeystoreState struct {
	Alias   string
	Profile spec.Profile
	// Trusted are the trust anchors in it.
	Trusted []TrustedCert
	// More tells that it holds certificates that are neither.
	More bool
}

// TrustedCert is a trust anchor in a keystore.
type TrustedCert struct {
	Alias       string
	Fingerprint pki.Fingerprint
}

// keystore observes a keystore, and returns the leaf that it holds. One that
// cannot be opened with its password is noted as that: whether it matters depends
// on what the other outputs hold. A password that cannot be had is an error, and
// so is what only may be intact.
func (o *observer) keystore(out spec.Output, data []byte, s *OutputState) (*x509.Certificate, error) {
	failed := func(err error) error { return fmt.Errorf("%s: read %s: %w", out.Field(), out.Path, err) }
	password := o.keystorePassword(out)
	if password != nil {
		secret, err := password()
		if err != nil {
			return nil, failed(fmt.Errorf("%w of the keystore: %w", pki.ErrPassword, err))
		}
		password = func() ([]byte, error) { return secret, nil }
	}
	store, err := pki.ParseKeystore(out.Form, data, password)
	var entry *pki.KeystoreKey
	if err == nil {
		entry, err = store.Entry()
	}
	switch {
	case errors.Is(err, pki.ErrPassword):
		s.Locked = failed(err)
		return nil, nil
	case errors.Is(err, pki.ErrUnsupported):
		return nil, failed(err)
	case err != nil:
		s.Malformed = err.Error()
		return nil, nil //nolint:nilerr // that it is malformed is an observation
	}
	key := entry.Key.Info()
	s.Key = &key
	s.Keystore = &KeystoreState{Alias: entry.Alias, Profile: store.Profile, More: len(store.Others) > 0}
	for _, t := range store.Trusted {
		s.Keystore.Trusted = append(s.Keystore.Trusted, TrustedCert{t.Alias, pki.CertificateFingerprint(t.Cert)})
	}
	if len(entry.Chain) == 0 {
		return nil, nil
	}
	for _, cert := range entry.Chain {
		s.Certs = append(s.Certs, pki.CertificateFingerprint(cert))
	}
	return entry.Chain[0], nil
}

// keystorePassword returns how to get the password of a keystore.
func (b Backends) keystorePassword(out spec.Output) func() ([]byte, error) {
	if out.Keystore == nil || out.Keystore.Password == nil {
		return nil
	}
	return func() ([]byte, error) { return b.Password(out.Keystore.Password) }
}

func (b Backends) keystoreEntry(out spec.Output, data []byte) (*pki.KeystoreKey, error) {
	store, err := pki.ParseKeystore(out.Form, data, b.keystorePassword(out))
	if err != nil {
		return nil, err
	}
	return store.Entry()
}

// keystoreDrift compares what only keystores have. Both formats are salted: the
// bytes say nothing.
func keystoreDrift(c *spec.Certificate, o spec.Output, k *KeystoreState, up *lineage) string {
	alias, profile := o.Keystore.Alias, o.Keystore.Profile
	if o.Form == spec.FormJKS {
		alias = pki.JavaAlias(alias)
	}
	var trusted []TrustedCert
	if c.Issuer != "" {
		trusted = []TrustedCert{{pki.TrustedAlias(alias), up.anchor}}
	}
	switch {
	case k.Alias != alias:
		return fmt.Sprintf("has the alias %q, want %q", k.Alias, alias)
	case k.Profile != profile && k.Profile == "":
		return fmt.Sprintf("is encrypted as no profile has it, want %s", profile)
	case k.Profile != profile:
		return fmt.Sprintf("has the profile %s, want %s", k.Profile, profile)
	case !slices.Equal(k.Trusted, trusted) || k.More:
		return "holds other trust anchors"
	}
	return ""
}

// checkPasswords makes sure that the keystores can be written before anything is
// issued for them.
func (a *applier) checkPasswords(c *spec.Certificate) error {
	for _, o := range c.Outputs {
		password := a.keystorePassword(o)
		if password == nil {
			continue
		}
		secret, err := password()
		if err == nil {
			err = pki.CheckKeystorePassword(o.Form, o.Keystore.Profile, secret)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.Field(), err)
		}
	}
	return nil
}

func (a *applier) encodeKeystore(o spec.Output, m pki.Material) ([]byte, error) {
	options := pki.KeystoreOptions{Alias: o.Keystore.Alias, Profile: o.Keystore.Profile}
	if password := a.keystorePassword(o); password != nil {
		var err error
		if options.Password, err = password(); err != nil {
			return nil, err
		}
	}
	return pki.EncodeKeystore(o.Form, m, options)
}
