// Package pki makes, reads and compares keys, requests, certificates and
// chains. It does no I/O and reads no clock: bytes and times come in, bytes and
// verdicts go out. All cryptography is that of the standard library. Only RC2, with
// which old PKCS#12 files are encrypted, is not in it, and left to go-pkcs12.
package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/certsync/certsync/spec"
)

// Backdate is how far before the time of the request a certificate's notBefore
// is set, so that clocks that are a little behind accept it.
const Backdate = 5 * time.Minute

// Chain is a certificate followed by its intermediates, each signed by the
// next; the root is left out.
type Chain []*x509.Certificate

// Material is everything that the outputs of one certificate are made of.
type Material struct {
	Key    *Key              // nil if no output needs it
	Chain  Chain             // at least the leaf
	Anchor *x509.Certificate // the root above the chain; nil if unknown
}

// Request asks an issuer for a certificate.
type Request struct {
	ID spec.ID
	// CSR is the DER of a PKCS#10 request (RFC 2986), signed with the new key.
	CSR []byte
	// Usages, Duration and CA say what a CSR cannot.
	Usages   []spec.Usage
	Duration time.Duration
	CA       *spec.CA
	// SubjectKeyID is the key's identifier; empty to derive it from the key.
	SubjectKeyID []byte
	// Replaces is the fingerprint of the certificate that was there before; empty for
	// none. A key that is kept may sign the same CSR twice, to the letter.
	Replaces string
	// Now is the time of the request.
	Now time.Time

	// proven is the digest of a CSR whose signature was verified already.
	proven [sha256.Size]byte
}
