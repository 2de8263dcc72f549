package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/certsync/certsync/spec"
)

// Key is a private key. It never formats, logs or marshals as itself: only
// Signer and EncodePEM give the key away. A Key is immutable and may be used
// concurrently.
type Key struct {
	// A function, since fmt prints its address at most, even where it calls no
	// methods: in an unexported field, given a verb that does not fit.
	open func() *private
}

type private struct {
	signer      crypto.Signer
	algorithm   spec.Algorithm
	size        int
	fingerprint Fingerprint
}

// Fingerprint is the SHA-256 of a DER encoding: of a certificate, or of a
// SubjectPublicKeyInfo.
type Fingerprint [sha256.Size]byte

// GenerateKey makes a new key. The size is in bits: 2048 to 8192 for RSA, 256, 384
// or 521 for ECDSA, and is ignored for Ed25519.
func GenerateKey(a spec.Algorithm, size int) (*Key, error) {
	signer, err := generate(a, size)
	if err != nil {
		return nil, err
	}
	return NewKey(signer)
}

func generate(a spec.Algorithm, size int) (crypto.Signer, error) {
	switch a {
	case spec.RSA:
		if size < 2048 || size > 8192 {
			return nil, fmt.Errorf("an RSA key of %d bits is not supported: use 2048, 3072 or 4096", size)
		}
		return rsa.GenerateKey(rand.Reader, size)
	case spec.ECDSA:
		switch size {
		case 256:
			return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		case 384:
			return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		case 521:
			return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		}
		return nil, fmt.Errorf("an ECDSA key of %d bits is not supported: use 256, 384 or 521", size)
	case spec.Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("key algorithm %q is not supported", a)
}

// NewKey wraps a signer whose public key is of RSA, ECDSA or Ed25519.
func NewKey(signer crypto.Signer) (*Key, error) {
	if signer == nil {
		return nil, errors.New("no private key")
	}
	algorithm, size := describe(signer.Public())
	if algorithm == "" {
		return nil, fmt.Errorf("a private key of type %T is not supported", signer)
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	p := &private{signer, algorithm, size, sha256.Sum256(der)}
	return &Key{func() *private { return p }}, nil
}

// Signer returns the key itself.
func (k *Key) Signer() crypto.Signer { return k.open().signer }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.open().signer.Public() }

// Algorithm returns the key's algorithm.
func (k *Key) Algorithm() spec.Algorithm { return k.open().algorithm }

// Size returns the key's size in bits, 0 for Ed25519.
func (k *Key) Size() int { return k.open().size }

// Fingerprint returns the SHA-256 of the public key's SubjectPublicKeyInfo. It
// equals the KeyFingerprint of every certificate for the key.
func (k *Key) Fingerprint() Fingerprint { return k.open().fingerprint }

// Matches tells whether the certificate is for this key.
func (k *Key) Matches(cert *x509.Certificate) bool {
	return k.open().fingerprint == KeyFingerprint(cert) || equalPublic(k.Public(), cert.PublicKey)
}

// Format writes the algorithm, whatever the verb (fmt.Formatter).
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.title()) }

// LogValue returns the algorithm (slog.LogValuer).
func (k Key) LogValue() slog.Value { return slog.StringValue(k.title()) }

// MarshalJSON refuses: keys are not for plans and records.
func (k Key) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a private key is not to be marshalled")
}

// MarshalText refuses, as MarshalJSON does.
func (k Key) MarshalText() ([]byte, error) { return k.MarshalJSON() }

func (k Key) title() string {
	if k.open == nil {
		return "[no private key]"
	}
	if k.Size() == 0 {
		return fmt.Sprintf("[%s private key]", k.Algorithm())
	}
	return fmt.Sprintf("[%s %d private key]", k.Algorithm(), k.Size())
}

// CertificateFingerprint returns the SHA-256 of the certificate's DER.
func CertificateFingerprint(cert *x509.Certificate) Fingerprint {
	return sha256.Sum256(cert.Raw)
}

// KeyFingerprint returns the SHA-256 of the certificate's SubjectPublicKeyInfo.
func KeyFingerprint(cert *x509.Certificate) Fingerprint {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// String returns lower-case hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// MarshalText returns what String returns (encoding.TextMarshaler).
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// describe returns the algorithm and the size in bits of a public key; the
// algorithm is empty if the language of the spec has no name for it.
func describe(public any) (spec.Algorithm, int) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return spec.ECDSA, p.Curve.Params().BitSize
	case *rsa.PublicKey:
		return spec.RSA, p.N.BitLen()
	case ed25519.PublicKey:
		return spec.Ed25519, 0
	}
	return "", 0
}

func equalPublic(a, b any) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
