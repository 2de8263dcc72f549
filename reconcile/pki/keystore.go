package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certsync/certsync/spec"
)

// Keystore is what a PKCS#12 file or a Java keystore holds.
type Keystore struct {
	Form spec.Form // FormPKCS12 or FormJKS
	// Profile is how a PKCS#12 file is encrypted; empty for a mixture that no
	// profile is, and for a Java keystore.
	Profile spec.Profile
	Keys    []KeystoreKey
	// Trusted are the certificates that Java takes for trust anchors.
	Trusted []KeystoreCert
	// Others are certificates that belong to no key.
	Others []KeystoreCert
}

// KeystoreKey is a private key with its certificate and what stands above it.
type KeystoreKey struct {
	Alias string
	Key   *Key
	Chain []*x509.Certificate
}

// KeystoreCert is a certificate with its name, which may be empty. The name of one
// that is encrypted with RC2 cannot be read: it is empty, too.
type KeystoreCert struct {
	Alias string
	Cert  *x509.Certificate
}

// Entry returns the only private key. A keystore with more holds what is not
// ours to judge, or to overwrite: that is ErrUnsupported.
func (k *Keystore) Entry() (*KeystoreKey, error) {
	switch len(k.Keys) {
	case 0:
		return nil, ErrNoKey
	case 1:
		return &k.Keys[0], nil
	}
	return nil, unsupported("a keystore with %d private keys is not supported", len(k.Keys))
}

// TrustedAlias is the name of the trust anchor beside an entry of that name.
func TrustedAlias(alias string) string { return alias + "-ca" }

// JavaAlias returns an alias as Java keeps it in its own keystores.
func JavaAlias(alias string) string { return strings.ToLower(alias) }

// KeystoreOptions tell how a keystore is written.
type KeystoreOptions struct {
	Alias string
	// Profile is how a PKCS#12 file is encrypted.
	Profile  spec.Profile
	Password []byte
}

// EncodeKeystore returns a PKCS#12 file or a Java keystore with the key, its
// chain, and the trust anchor as an entry of its own, unless the certificate is
// the anchor itself. A password that the format cannot have is an error that
// wraps ErrPassword. The result differs each time: salts are random.
func EncodeKeystore(form spec.Form, m Material, o KeystoreOptions) ([]byte, error) {
	switch {
	case m.Key == nil:
		return nil, errors.New("no private key")
	case len(m.Chain) == 0:
		return nil, errors.New("no certificate")
	case m.Anchor == nil:
		return nil, errors.New("the trust anchor is not known")
	case !m.Key.Matches(m.Chain[0]):
		return nil, errors.New("the private key is not that of the certificate")
	}
	if err := CheckKeystorePassword(form, o.Profile, o.Password); err != nil {
		return nil, err
	}
	if form == spec.FormJKS {
		return encodeJKS(m, o)
	}
	return encodePKCS12(m, o)
}

// minJavaPassword is what keytool asks for.
const minJavaPassword = 6

// CheckKeystorePassword tells why a keystore cannot have the password; the error
// wraps ErrPassword.
func CheckKeystorePassword(form spec.Form, profile spec.Profile, password []byte) error {
	switch n := utf8.RuneCount(password); {
	case !utf8.Valid(password):
		return fmt.Errorf("the %w of the keystore is not UTF-8", ErrPassword)
	case bytes.ContainsAny(password, "\n\r\x00"):
		// openssl and keytool would take the first line alone.
		return fmt.Errorf("the %w of the keystore is more than one line", ErrPassword)
	case form == spec.FormJKS && n < minJavaPassword:
		return fmt.Errorf("the %w has %d characters: a Java keystore needs at least %d", ErrPassword, n, minJavaPassword)
	case form == spec.FormPKCS12 && profile == spec.ProfileLegacyRC2 && beyondUCS2(string(password)):
		return fmt.Errorf("the %w of a keystore of the profile %s cannot have characters beyond U+FFFF", ErrPassword, profile)
	case form == spec.FormPKCS12 && profile == spec.ProfilePasswordless && n > 0:
		return fmt.Errorf("the profile %s goes without a %w", profile, ErrPassword)
	}
	return nil
}

// IsKeystore tells whether data looks like a PKCS#12 file or a Java keystore,
// and which: the form is empty if it does not.
func IsKeystore(data []byte) spec.Form {
	switch {
	case bytes.HasPrefix(data, jksMagic), bytes.HasPrefix(data, jceksMagic):
		return spec.FormJKS
	case isPKCS12(data):
		return spec.FormPKCS12
	}
	return ""
}

// isPKCS12 tells a PKCS#12 file (RFC 7292, section 4) by its first fields, which
// may be in BER: a sequence, version 3, and a content type of PKCS#7.
func isPKCS12(data []byte) bool {
	head := data[:min(len(data), 64)]
	version := bytes.Index(head, []byte{0x02, 0x01, 0x03, 0x30})
	contentType := bytes.Index(head, []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07})
	return len(head) > 0 && head[0] == 0x30 && version > 0 && contentType > version
}

// ParseKeystore reads a keystore of the given form. The password is asked for
// only if the keystore has one; without it, or with a wrong one, the error wraps
// ErrPassword. Of a keystore that is damaged it cannot always be told from one
// with another password. No error shows any part of a key.
func ParseKeystore(form spec.Form, data []byte, password func() ([]byte, error)) (*Keystore, error) {
	return parseKeystore(form, data, password, maxKeystoreIterations)
}

// maxKeystoreIterations and maxKeystoreParts bound what a hostile file can cost:
// each encrypted part may ask for as many iterations.
const (
	maxKeystoreIterations = 2_000_000
	maxKeystoreParts      = 100
)

func parseKeystore(form spec.Form, data []byte, password func() ([]byte, error), iterationLimit int) (*Keystore, error) {
	if is := IsKeystore(data); is != "" && is != form {
		return nil, fmt.Errorf("malformed %s keystore: it is one of the form %s", form, is)
	}
	if form == spec.FormJKS {
		return parseJKS(data, password)
	}
	return parsePKCS12(data, password, iterationLimit)
}

// intact makes of an error about what was written so, and is not understood, one
// that is ErrUnsupported: it may hold a key.
func intact(err error) error {
	if errors.Is(err, ErrPassword) || errors.Is(err, ErrUnsupported) {
		return err
	}
	return unsupported("%w", err)
}

var errKeystorePassword = fmt.Errorf("wrong %w, or the keystore is damaged", ErrPassword)

// keystorePassword asks for the password.
func keystorePassword(password func() ([]byte, error)) ([]byte, error) {
	if password == nil {
		return nil, fmt.Errorf("the keystore has a %w and there is none for it", ErrPassword)
	}
	secret, err := password()
	if err != nil {
		return nil, fmt.Errorf("%w of the keystore: %w", ErrPassword, err)
	}
	return secret, nil
}

// keystoreKey makes a Key of a PrivateKeyInfo.
func keystoreKey(der []byte) (*Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	switch {
	case err != nil && strings.Contains(err.Error(), "unknown"):
		return nil, unsupported("private key: %w", err)
	case err != nil:
		return nil, fmt.Errorf("malformed private key: %w", err)
	}
	return newParsedKey(parsed)
}

// Info is what may be told of the key.
func (k *Key) Info() KeyInfo {
	return KeyInfo{Algorithm: k.Algorithm(), Size: k.Size(), Encoding: spec.PKCS8, Fingerprint: k.Fingerprint()}
}

// entryTime is what a Java keystore gives as the date of its entries.
func entryTime(m Material) time.Time { return m.Chain[0].NotBefore }
