package handshake

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
)

// Identity is what a client shows.
type Identity struct {
	Name  string
	Chain []*x509.Certificate // what is sent, leaf first
	Key   *pki.Key
	// Missing are the intermediates between the chain and the root that are known,
	// but not sent.
	Missing []*x509.Certificate
}

// Certificate returns the identity for a handshake.
func (id *Identity) Certificate() *tls.Certificate {
	c := &tls.Certificate{PrivateKey: id.Key.Signer(), Leaf: id.Chain[0]}
	for _, cert := range id.Chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// Objection is something that a server may have against a certificate.
type Objection struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"` // how to mend it
}

// Objections are what a server may have against the identity, as far as it can be
// told from here. r is what the server asks for; nil if that is not known.
func (id *Identity) Objections(r *CertificateRequest, now time.Time) []Objection {
	leaf := id.Chain[0]
	var list []Objection
	object := func(hint, format string, args ...any) {
		list = append(list, Objection{fmt.Sprintf(format, args...), hint})
	}

	if !id.Key.Matches(leaf) {
		object(mendByApply, "the private key is not that of the certificate")
	}
	for i, cert := range id.Chain {
		what := "the certificate"
		if i > 0 {
			what = fmt.Sprintf("the intermediate %q", pki.SubjectString(cert.Subject))
		}
		switch {
		case now.After(cert.NotAfter):
			object(mendByApply, "%s expired on %s", what, cert.NotAfter.UTC().Format(time.DateTime+" MST"))
		case now.Before(cert.NotBefore):
			object("compare the clocks", "%s is not valid before %s", what, cert.NotBefore.UTC().Format(time.DateTime+" MST"))
		}
	}
	if usages := slices.Concat(leaf.ExtKeyUsage); len(usages)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(usages, x509.ExtKeyUsageClientAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		object("give it profile: client and run certsync apply", "it lacks the usage client auth")
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		object("add the usage digital signature and run certsync apply", "it lacks the usage digital signature")
	}
	if r == nil {
		return list
	}
	if len(r.rawCAs) > 0 && !id.signedByOneOf(r.rawCAs, id.Chain) {
		if id.signedByOneOf(r.rawCAs, id.Missing) {
			object(mendChain, "the chain is incomplete: it is sent without %q", pki.SubjectString(id.Missing[0].Subject))
		} else {
			object("let one of these CAs issue it, or add its root to the client CAs of the server", "its issuer is %q, which is not among the CAs that the server asks for: %s",
				pki.SubjectString(id.Chain[len(id.Chain)-1].Issuer), oneOf(r.CAs))
		}
	} else if len(id.Missing) > 0 && len(r.rawCAs) == 0 {
		object(mendChain, "the chain may be incomplete: it is sent without %q", pki.SubjectString(id.Missing[0].Subject))
	}
	if !r.accepts(id.Key) {
		object("set privateKey.algorithm and run certsync apply", "its %s key makes no signature that the server asks for: %s", id.Key.Algorithm(), strings.Join(append(slices.Clone(r.SignatureSchemes), r.Types...), ", "))
	}
	return list
}

const (
	mendByApply = "certsync apply makes a new one"
	mendChain   = "give the client the output fullChain in place of certificate"
)

func (id *Identity) signedByOneOf(names [][]byte, chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		return slices.ContainsFunc(names, func(n []byte) bool { return bytes.Equal(n, c.RawIssuer) })
	})
}

// accepts tells whether a key can sign as the server asks.
func (r *CertificateRequest) accepts(k *pki.Key) bool {
	if len(r.schemes) == 0 { // before TLS 1.2
		return true
	}
	return slices.ContainsFunc(r.schemes, func(scheme uint16) bool {
		switch public := k.Public().(type) {
		case ed25519.PublicKey:
			return scheme == 0x0807
		case *ecdsa.PublicKey:
			// In TLS 1.2 the curve may be any (RFC 8422, section 5.1.1).
			if len(r.types) > 0 {
				return scheme&0xff == 3
			}
			return map[int]uint16{256: 0x0403, 384: 0x0503, 521: 0x0603}[public.Params().BitSize] == scheme
		case *rsa.PublicKey:
			return scheme&0xff == 1 || scheme >= 0x0804 && scheme <= 0x0806
		}
		return true
	})
}
