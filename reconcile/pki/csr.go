package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/certsync/certsync/spec"
)

// NewRequest returns the request for a certificate, with a CSR signed by k. When
// crypto/x509 makes a CSR it verifies the signature, so Sign need not do so again.
func NewRequest(c *spec.Certificate, k *Key, now time.Time) (Request, error) {
	csr, err := NewCSR(c, k)
	if err != nil {
		return Request{}, err
	}
	return Request{ID: c.ID, CSR: csr, Usages: c.Usages, Duration: c.Duration, CA: c.CA, Now: now, proven: sha256.Sum256(csr)}, nil
}

// Prospective returns the certificate of a CA as far as what it signs refers to
// it: name, key and key identifier as they will be once c is issued for k. It is
// no certificate, but will do as the issuer for SignedBy.
func Prospective(c *spec.Certificate, k *Key) (*x509.Certificate, error) {
	subject, err := marshalSubject(c)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	info, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	id, err := keyIdentifier(info)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{RawSubject: subject, SubjectKeyId: id, PublicKey: k.Public(), RawSubjectPublicKeyInfo: info}, nil
}

// NewSuccessor returns the request for a certificate that takes the place of
// previous, of the same key. As long as the subject says the same it is encoded
// the same, and the key keeps its identifier: what a CA signed before names both
// to the letter, and must chain to its new certificate too.
func NewSuccessor(c *spec.Certificate, k *Key, previous *x509.Certificate, now time.Time) (Request, error) {
	subject, err := marshalSubject(c)
	if err != nil {
		return Request{}, fmt.Errorf("subject: %w", err)
	}
	have, want := IdentityOf(previous), Wanted(c)
	if have.CommonName == want.CommonName && have.Subject.equal(want.Subject) {
		subject = previous.RawSubject
	}
	csr, err := newCSR(c, k, subject)
	if err != nil {
		return Request{}, err
	}
	return Request{ID: c.ID, CSR: csr, Usages: c.Usages, Duration: c.Duration, CA: c.CA, Now: now,
		SubjectKeyID: previous.SubjectKeyId, proven: sha256.Sum256(csr)}, nil
}

// NewCSR returns the DER of a PKCS#10 request (RFC 2986) for c, signed by k. It
// asks for the usages and basic constraints by way of requested extensions, as
// remote CAs want it.
func NewCSR(c *spec.Certificate, k *Key) ([]byte, error) {
	subject, err := marshalSubject(c)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	return newCSR(c, k, subject)
}

func newCSR(c *spec.Certificate, k *Key, subject []byte) ([]byte, error) {
	uris, err := parseURIs(c.URIs)
	if err != nil {
		return nil, err
	}
	extensions, err := requestedExtensions(c)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject:      subject,
		DNSNames:        c.DNSNames,
		EmailAddresses:  c.EmailAddresses,
		IPAddresses:     netIPs(c.IPAddresses),
		URIs:            uris,
		ExtraExtensions: extensions,
	}, k.Signer())
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return der, nil
}

func parseURIs(list []string) ([]*url.URL, error) {
	var uris []*url.URL
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("uris: %w", err)
		}
		uris = append(uris, u)
	}
	return uris, nil
}

func netIPs(list []netip.Addr) []net.IP {
	var ips []net.IP
	for _, a := range list {
		ips = append(ips, a.Unmap().AsSlice())
	}
	return ips
}

// RFC 5280, sections 4.2.1.3, 4.2.1.9 and 4.2.1.12.
var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

func requestedExtensions(c *spec.Certificate) ([]pkix.Extension, error) {
	keyUsage, _, err := x509Usages(c.Usages)
	if err != nil {
		return nil, err
	}
	var list []pkix.Extension
	if keyUsage != 0 {
		list = append(list, pkix.Extension{Id: oidKeyUsage, Critical: true, Value: marshalKeyUsage(keyUsage)})
	}
	if ext := marshalExtKeyUsage(c.Usages); ext != nil {
		list = append(list, pkix.Extension{Id: oidExtKeyUsage, Value: ext})
	}
	if c.CA != nil {
		list = append(list, pkix.Extension{Id: oidBasicConstraints, Critical: true, Value: marshalCA(c.CA)})
	}
	return list, nil
}

// marshalKeyUsage encodes a named bit list: bit 0 is the first one, and trailing
// zero bits are left out (X.690, section 11.2.2).
func marshalKeyUsage(usage x509.KeyUsage) []byte {
	reversed := bits.Reverse16(uint16(usage))
	content := []byte{0, byte(reversed >> 8), byte(reversed)}
	if content[2] == 0 {
		content = content[:2]
	}
	last := content[len(content)-1]
	content[0] = byte(bits.TrailingZeros8(last))
	return der(asn1.TagBitString, content)
}

func marshalExtKeyUsage(usages []spec.Usage) []byte {
	var oids [][]byte
	for _, usage := range usages {
		for i := range usageTable {
			if u := &usageTable[i]; u.usage == usage && u.keyUsage == 0 {
				oids = append(oids, derOID(u.oid))
			}
		}
	}
	if oids == nil {
		return nil
	}
	return der(derSequence, oids...)
}

func marshalCA(ca *spec.CA) []byte {
	isCA := der(asn1.TagBoolean, []byte{0xff})
	if ca.PathLen == nil {
		return der(derSequence, isCA)
	}
	length, err := asn1.Marshal(*ca.PathLen)
	if err != nil {
		panic(err) // an int always encodes
	}
	return der(derSequence, isCA, length)
}

// attributeDER is an attribute type of a subject and how its values are encoded.
type attributeDER struct {
	oid    asn1.ObjectIdentifier
	name   string // of the field in the spec
	encode func(string) ([]byte, error)
}

var subjectAttributes = map[attribute]attributeDER{
	attrCountry:            {asn1.ObjectIdentifier{2, 5, 4, 6}, "countries", printableString},
	attrProvince:           {asn1.ObjectIdentifier{2, 5, 4, 8}, "provinces", directoryString},
	attrLocality:           {asn1.ObjectIdentifier{2, 5, 4, 7}, "localities", directoryString},
	attrStreetAddress:      {asn1.ObjectIdentifier{2, 5, 4, 9}, "streetAddresses", directoryString},
	attrPostalCode:         {asn1.ObjectIdentifier{2, 5, 4, 17}, "postalCodes", directoryString},
	attrOrganization:       {asn1.ObjectIdentifier{2, 5, 4, 10}, "organizations", directoryString},
	attrOrganizationalUnit: {asn1.ObjectIdentifier{2, 5, 4, 11}, "organizationalUnits", directoryString},
	attrCommonName:         {asn1.ObjectIdentifier{2, 5, 4, 3}, "commonName", directoryString},
	attrSerialNumber:       {asn1.ObjectIdentifier{2, 5, 4, 5}, "serialNumber", printableString},
	attrEmailAddress:       {oidEmailAddress, "emailAddress", ia5String},
}

// marshalSubject encodes the distinguished name with one value in each RDN, in
// the order that openssl and most CAs use: from the country down to the name.
func marshalSubject(c *spec.Certificate) ([]byte, error) {
	s := &c.Subject
	var rdns [][]byte
	for _, part := range []struct {
		attr   attribute
		values []string
	}{
		{attrCountry, s.Countries},
		{attrProvince, s.Provinces},
		{attrLocality, s.Localities},
		{attrStreetAddress, s.StreetAddresses},
		{attrPostalCode, s.PostalCodes},
		{attrOrganization, s.Organizations},
		{attrOrganizationalUnit, s.OrganizationalUnits},
		{attrCommonName, scalar(c.CommonName)},
		{attrSerialNumber, scalar(s.SerialNumber)},
		{attrEmailAddress, scalar(s.EmailAddress)},
	} {
		for _, value := range part.values {
			a := subjectAttributes[part.attr]
			encoded, err := a.encode(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", a.name, value, err)
			}
			rdns = append(rdns, der(derSet, der(derSequence, derOID(a.oid), encoded)))
		}
	}
	return der(derSequence, rdns...), nil
}

// directoryString encodes a DirectoryString (RFC 5280, section 4.1.2.4).
func directoryString(s string) ([]byte, error) {
	if b, err := printableString(s); err == nil {
		return b, nil
	}
	if strings.ToValidUTF8(s, "") != s {
		return nil, errors.New("not valid UTF-8")
	}
	return der(asn1.TagUTF8String, []byte(s)), nil
}

func printableString(s string) ([]byte, error) {
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(" '()+,-./:=?", r):
		default:
			return nil, fmt.Errorf("%q is not allowed here", r)
		}
	}
	return der(asn1.TagPrintableString, []byte(s)), nil
}

func ia5String(s string) ([]byte, error) {
	for _, r := range s {
		if r >= 0x80 {
			return nil, fmt.Errorf("%q is not allowed here", r)
		}
	}
	return der(asn1.TagIA5String, []byte(s)), nil
}

const (
	derSequence = asn1.TagSequence | 0x20
	derSet      = asn1.TagSet | 0x20
)

// der encodes one element. It is here because encoding/asn1, which works by
// reflection, is no good at choosing string types.
func der(tag byte, content ...[]byte) []byte {
	size := 0
	for _, c := range content {
		size += len(c)
	}
	out := make([]byte, 0, size+6)
	out = append(out, tag)
	switch {
	case size < 0x80:
		out = append(out, byte(size))
	case size < 0x100:
		out = append(out, 0x81, byte(size))
	default:
		// The length of a subject is bounded by the size of a spec: 32 bits do.
		n := (bits.Len32(uint32(size)) + 7) / 8
		out = append(out, 0x80|byte(n))
		for n--; n >= 0; n-- {
			out = append(out, byte(size>>(8*n)))
		}
	}
	for _, c := range content {
		out = append(out, c...)
	}
	return out
}

func derOID(oid asn1.ObjectIdentifier) []byte {
	b, err := asn1.Marshal(oid)
	if err != nil {
		panic(err) // only constants come here
	}
	return b
}
