package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"

	"github.com/certsync/certsync/spec"
)

// Sign issues the certificate that r asks for, signed by parent, whose key
// signer is. The names are those of the CSR; usages, lifetime and CA are those of
// r. Its validity starts Backdate before r.Now and ends r.Duration after it, but
// never reaches beyond the parent's. Sign refuses a parent that may not, or not
// at r.Now, issue this certificate.
//
// The certificate follows RFC 5280: a random positive serial number of up to 159
// bits, basic constraints and key usage critical, subject alternative names
// critical if there is no subject, key identifiers as in RFC 7093, section 2.
func Sign(r Request, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, error) {
	template, err := newTemplate(r)
	if err != nil {
		return nil, err
	}
	if err := mayIssue(parent, signer, r); err != nil {
		return nil, err
	}
	if err := verifyConstraints(parent, []*x509.Certificate{template}); err != nil {
		return nil, err
	}
	if template.NotBefore.Before(parent.NotBefore) {
		template.NotBefore = parent.NotBefore
	}
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	// Not left to crypto/x509, which omits it if issuer and subject have one name.
	template.AuthorityKeyId = parent.SubjectKeyId
	return create(template, parent, signer)
}

// SelfSign issues the certificate that r asks for, signed by its own key.
func SelfSign(r Request, k *Key) (*x509.Certificate, error) {
	template, err := newTemplate(r)
	if err != nil {
		return nil, err
	}
	if !equalPublic(k.Public(), template.PublicKey) {
		return nil, errors.New("the certificate request is for another key")
	}
	return create(template, template, k.Signer())
}

func create(template, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, error) {
	if !template.NotAfter.After(template.NotBefore) {
		return nil, fmt.Errorf("the lifetime would end on %s, before it starts", instant(template.NotAfter))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, template.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate just signed: %w", err)
	}
	return cert, nil
}

// newTemplate returns what the certificate holds as far as its issuer does not
// matter, with the CSR's public key.
func newTemplate(r Request) (*x509.Certificate, error) {
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, fmt.Errorf("malformed certificate request: %w", err)
	}
	if sha256.Sum256(r.CSR) != r.proven {
		if err := csr.CheckSignature(); err != nil {
			return nil, fmt.Errorf("certificate request: %w", err)
		}
	}
	if algorithm, _ := describe(csr.PublicKey); algorithm == "" {
		return nil, errors.New("the certificate request has a key of an algorithm that is not supported")
	}
	if r.Duration <= 0 {
		return nil, fmt.Errorf("a lifetime of %v is not possible", r.Duration)
	}
	keyUsage, extKeyUsage, err := x509Usages(r.Usages)
	if err != nil {
		return nil, err
	}
	keyID, err := keyIdentifier(csr.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	if len(r.SubjectKeyID) > 0 {
		keyID = r.SubjectKeyID
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		RawSubject:            csr.RawSubject,
		Subject:               csr.Subject,
		NotBefore:             r.Now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:              r.Now.Add(r.Duration).UTC().Truncate(time.Second),
		DNSNames:              csr.DNSNames,
		EmailAddresses:        csr.EmailAddresses,
		IPAddresses:           csr.IPAddresses,
		URIs:                  csr.URIs,
		KeyUsage:              keyUsage,
		ExtKeyUsage:           extKeyUsage,
		BasicConstraintsValid: true,
		MaxPathLen:            -1,
		SubjectKeyId:          keyID,
		PublicKey:             csr.PublicKey,
	}
	if r.CA != nil {
		template.IsCA = true
		if r.CA.PathLen != nil {
			template.MaxPathLen = *r.CA.PathLen
			template.MaxPathLenZero = *r.CA.PathLen == 0
		}
		setConstraints(template, r.CA.NameConstraints)
	}
	return template, nil
}

func setConstraints(template *x509.Certificate, nc *spec.NameConstraints) {
	if nc == nil {
		return
	}
	template.PermittedDNSDomainsCritical = nc.Critical // of the extension, whatever its name
	template.PermittedDNSDomains = nc.Permitted.DNSDomains
	template.PermittedIPRanges = ipNets(nc.Permitted.IPRanges)
	template.PermittedEmailAddresses = nc.Permitted.EmailAddresses
	template.PermittedURIDomains = nc.Permitted.URIDomains
	template.ExcludedDNSDomains = nc.Excluded.DNSDomains
	template.ExcludedIPRanges = ipNets(nc.Excluded.IPRanges)
	template.ExcludedEmailAddresses = nc.Excluded.EmailAddresses
	template.ExcludedURIDomains = nc.Excluded.URIDomains
}

func ipNets(list []netip.Prefix) []*net.IPNet {
	var nets []*net.IPNet
	for _, p := range list {
		p = p.Masked()
		nets = append(nets, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return nets
}

// newSerial returns 159 random bits: as much as fits into 20 octets with the
// sign bit left clear (RFC 5280, section 4.1.2.2).
func newSerial() *big.Int {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	b[19] |= 1 // zero is not positive; this leaves 158 bits of entropy
	return new(big.Int).SetBytes(b[:])
}

// keyIdentifier returns the first 160 bits of the SHA-256 of the key's BIT
// STRING (RFC 7093, section 2, method 1).
func keyIdentifier(rawInfo []byte) ([]byte, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if err := unmarshal(rawInfo, &info); err != nil {
		return nil, fmt.Errorf("malformed public key: %w", err)
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

// mayIssue tells whether parent may sign a certificate for r at r.Now.
func mayIssue(parent *x509.Certificate, signer crypto.Signer, r Request) error {
	now := r.Now.UTC()
	switch {
	case !equalPublic(parent.PublicKey, signer.Public()):
		return errors.New("the issuer's private key does not match its certificate")
	case !parent.BasicConstraintsValid || !parent.IsCA:
		return errors.New("the issuer's certificate is not that of a CA")
	case !maySign(parent, x509.KeyUsageCertSign):
		return errors.New(`the issuer's certificate lacks the usage "cert sign"`)
	case now.After(parent.NotAfter):
		return fmt.Errorf("the issuer's certificate expired on %s", instant(parent.NotAfter))
	case now.Before(parent.NotBefore):
		return fmt.Errorf("the issuer's certificate is not valid before %s", instant(parent.NotBefore))
	}
	limit := pathLen(parent)
	if r.CA == nil || limit < 0 {
		return nil
	}
	if limit == 0 {
		return errors.New("the issuer may not sign CAs: its pathLen is 0")
	}
	if r.CA.PathLen != nil && *r.CA.PathLen >= limit {
		return fmt.Errorf("pathLen %d is more than the issuer may grant: its own is %d", *r.CA.PathLen, limit)
	}
	return nil
}

// maySign tells whether a certificate's key may be used so. A certificate
// without key usages limits nothing (RFC 5280, section 4.2.1.3).
func maySign(cert *x509.Certificate, usage x509.KeyUsage) bool {
	return cert.KeyUsage&usage != 0 || cert.KeyUsage == 0 && extensionOf(cert, oidKeyUsage) == nil
}

// pathLen returns -1 if there is no limit.
func pathLen(cert *x509.Certificate) int {
	if cert.MaxPathLen > 0 || cert.MaxPathLenZero {
		return cert.MaxPathLen
	}
	return -1
}

// SignedBy tells whether issuer's key signed cert: nil, or why not. Names and
// key identifiers are compared first, so that the signature is looked at only if
// they agree. Validity and what issuer may do are not checked.
func SignedBy(cert, issuer *x509.Certificate) error {
	if err := NamesIssuer(cert, issuer); err != nil {
		return err
	}
	if err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return fmt.Errorf("not signed by the issuer's key: %w", err)
	}
	return nil
}

// NamesIssuer tells whether cert names issuer as its issuer, by name and key
// identifier: what SignedBy checks but for the signature itself.
func NamesIssuer(cert, issuer *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return errors.New("signed by an issuer of another name")
	}
	if len(cert.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId) {
		return errors.New("signed by another key of the issuer")
	}
	return nil
}

// CheckAnswer tells whether chain is an acceptable answer to r: nil, or why not.
// The leaf must be for the key of r.CSR, valid at r.Now, no CA unless one was
// asked for, and signed by issuer if that is not nil. Every other certificate
// of the chain must be a CA that signed the one before it. What the issuer may
// alter, such as names, usages and lifetime, is for Compare to tell.
func CheckAnswer(r Request, chain Chain, issuer *x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the issuer returned no certificate")
	}
	leaf := chain[0]
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return fmt.Errorf("malformed certificate request: %w", err)
	}
	switch {
	case !bytes.Equal(csr.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) && !equalPublic(csr.PublicKey, leaf.PublicKey):
		return errors.New("the issuer returned a certificate for another key")
	case !leaf.NotAfter.After(leaf.NotBefore):
		return fmt.Errorf("the issuer returned a certificate that ends on %s, before it starts", instant(leaf.NotAfter))
	case !leaf.NotAfter.After(r.Now):
		return fmt.Errorf("the issuer returned a certificate that expired on %s", instant(leaf.NotAfter))
	case leaf.NotBefore.After(r.Now.Add(Backdate)):
		return fmt.Errorf("the issuer returned a certificate that is not valid before %s", instant(leaf.NotBefore))
	case r.CA == nil && leaf.IsCA:
		return errors.New("the issuer returned the certificate of a CA, which was not asked for")
	case r.CA != nil && !leaf.IsCA:
		return errors.New("the issuer returned a certificate that is not that of a CA, which was asked for")
	}
	return checkChain(chain, issuer)
}

func checkChain(chain Chain, issuer *x509.Certificate) error {
	if issuer != nil {
		if err := SignedBy(chain[0], issuer); err != nil {
			return fmt.Errorf("the issuer returned a certificate that is %w", err)
		}
	}
	for i, parent := range chain[1:] {
		if !parent.BasicConstraintsValid || !parent.IsCA {
			return fmt.Errorf("certificate %d of the issuer's chain is not that of a CA", i+2)
		}
		if i == 0 && issuer != nil && bytes.Equal(parent.Raw, issuer.Raw) {
			continue // checked just now
		}
		if err := SignedBy(chain[i], parent); err != nil {
			return fmt.Errorf("certificate %d of the issuer's chain is not %w by the next one", i+1, err)
		}
	}
	return nil
}

// instant is how messages tell times.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
