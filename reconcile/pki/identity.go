package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/certsync/certsync/spec"
)

// Identity is what of a certificate the spec determines, besides times and the
// issuer. Wanted and IdentityOf bring both sides to one form, in which what
// means the same is equal: lists are sorted sets, DNS names are lower case. The
// tags are the paths in the spec. An Identity holds nothing of the certificate
// that it was made from, so that very many can be kept.
type Identity struct {
	CommonName      string           `json:"commonName"`
	Subject         *Subject         `json:"subject"` // nil if all of it is empty
	DNSNames        []string         `json:"dnsNames"`
	IPAddresses     []string         `json:"ipAddresses"`
	URIs            []string         `json:"uris"`
	EmailAddresses  []string         `json:"emailAddresses"`
	Usages          []spec.Usage     `json:"usages"` // canonical; then unknown ones as dotted OIDs
	Algorithm       spec.Algorithm   `json:"privateKey.algorithm"`
	Size            int              `json:"privateKey.size"`
	IsCA            bool             `json:"isCA"`
	PathLen         int              `json:"pathLen"`         // -1 if unlimited, or no CA
	NameConstraints *NameConstraints `json:"nameConstraints"` // nil if there are none
}

// Subject is the distinguished name of an Identity besides the common name.
type Subject struct {
	Countries           []string `json:"countries"`
	Provinces           []string `json:"provinces"`
	Localities          []string `json:"localities"`
	StreetAddresses     []string `json:"streetAddresses"`
	PostalCodes         []string `json:"postalCodes"`
	Organizations       []string `json:"organizations"`
	OrganizationalUnits []string `json:"organizationalUnits"`
	SerialNumber        []string `json:"serialNumber"`
	EmailAddress        []string `json:"emailAddress"`
	// Other are attributes that the spec has no word for, as "oid=value".
	Other []string `json:"other"`
}

// NameConstraints are the name constraints of an Identity.
type NameConstraints struct {
	Critical  bool  `json:"critical,omitempty"`
	Permitted Names `json:"permitted,omitzero"`
	Excluded  Names `json:"excluded,omitzero"`
}

// Names are the subtrees of NameConstraints.
type Names struct {
	DNSDomains     []string `json:"dnsDomains,omitempty"`
	IPRanges       []string `json:"ipRanges,omitempty"`
	EmailAddresses []string `json:"emailAddresses,omitempty"`
	URIDomains     []string `json:"uriDomains,omitempty"`
}

// Wanted returns the identity that a certificate for c has.
func Wanted(c *spec.Certificate) Identity {
	id := Identity{
		CommonName:     c.CommonName,
		Subject:        wantedSubject(&c.Subject),
		DNSNames:       set(mapped(c.DNSNames, strings.ToLower)),
		IPAddresses:    set(mapped(c.IPAddresses, func(a netip.Addr) string { return a.Unmap().String() })),
		URIs:           set(mapped(c.URIs, normalURI)),
		EmailAddresses: set(mapped(c.EmailAddresses, normalEmail)),
		Usages:         canonicalUsages(c.Usages),
		Algorithm:      c.PrivateKey.Algorithm,
		Size:           c.PrivateKey.Size,
		PathLen:        -1,
	}
	if id.Algorithm == spec.Ed25519 {
		id.Size = 0
	}
	if c.CA == nil {
		return id
	}
	id.IsCA = true
	if c.CA.PathLen != nil {
		id.PathLen = *c.CA.PathLen
	}
	if nc := c.CA.NameConstraints; nc != nil {
		id.NameConstraints = normalConstraints(nc.Critical, wantedNames(&nc.Permitted), wantedNames(&nc.Excluded))
	}
	return id
}

func wantedSubject(s *spec.Subject) *Subject {
	return normalSubject(Subject{
		Countries:           slices.Clone(s.Countries),
		Provinces:           slices.Clone(s.Provinces),
		Localities:          slices.Clone(s.Localities),
		StreetAddresses:     slices.Clone(s.StreetAddresses),
		PostalCodes:         slices.Clone(s.PostalCodes),
		Organizations:       slices.Clone(s.Organizations),
		OrganizationalUnits: slices.Clone(s.OrganizationalUnits),
		SerialNumber:        scalar(s.SerialNumber),
		EmailAddress:        scalar(s.EmailAddress),
	})
}

func wantedNames(n *spec.Names) Names {
	return Names{
		DNSDomains:     set(mapped(n.DNSDomains, strings.ToLower)),
		IPRanges:       set(mapped(n.IPRanges, func(p netip.Prefix) string { return p.Masked().String() })),
		EmailAddresses: set(mapped(n.EmailAddresses, normalEmail)),
		URIDomains:     set(mapped(n.URIDomains, strings.ToLower)),
	}
}

// IdentityOf returns the identity of an existing certificate. Names of kinds
// that the spec has no word for, such as otherName, are no part of it.
func IdentityOf(cert *x509.Certificate) Identity {
	id := Identity{
		DNSNames:       set(mapped(cert.DNSNames, strings.ToLower)),
		IPAddresses:    set(mapped(cert.IPAddresses, ipString)),
		URIs:           set(mapped(cert.URIs, (*url.URL).String)),
		EmailAddresses: set(mapped(cert.EmailAddresses, normalEmail)),
		Usages:         usagesOf(cert),
		PathLen:        -1,
	}
	id.CommonName, id.Subject = subjectOf(cert.Subject.Names)
	id.Algorithm, id.Size = describe(cert.PublicKey)
	if id.Algorithm == "" {
		id.Algorithm = spec.Algorithm(cert.PublicKeyAlgorithm.String())
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return id
	}
	id.IsCA = true
	if cert.MaxPathLen > 0 || cert.MaxPathLenZero {
		id.PathLen = cert.MaxPathLen
	}
	id.NameConstraints = normalConstraints(cert.PermittedDNSDomainsCritical,
		namesOf(cert.PermittedDNSDomains, cert.PermittedIPRanges, cert.PermittedEmailAddresses, cert.PermittedURIDomains),
		namesOf(cert.ExcludedDNSDomains, cert.ExcludedIPRanges, cert.ExcludedEmailAddresses, cert.ExcludedURIDomains))
	return id
}

func subjectOf(names []pkix.AttributeTypeAndValue) (commonName string, _ *Subject) {
	var s Subject
	for _, name := range names {
		value, ok := name.Value.(string)
		if !ok {
			value = fmt.Sprint(name.Value)
		}
		list := &s.Other
		switch a := attributeOf(name.Type); {
		case a == attrCommonName && commonName == "":
			commonName = value
			continue
		case a == attrNone || a == attrCommonName:
			value = name.Type.String() + "=" + value
		default:
			list = s.list(a)
		}
		*list = append(*list, value)
	}
	return commonName, normalSubject(s)
}

func namesOf(domains []string, ranges []*net.IPNet, emails, uris []string) Names {
	return Names{
		DNSDomains:     set(mapped(domains, strings.ToLower)),
		IPRanges:       set(mapped(ranges, rangeString)),
		EmailAddresses: set(mapped(emails, normalEmail)),
		URIDomains:     set(mapped(uris, strings.ToLower)),
	}
}

// Equal tells whether the two are the same. It allocates nothing.
func (a *Identity) Equal(b *Identity) bool {
	return a.CommonName == b.CommonName &&
		a.Subject.equal(b.Subject) &&
		slices.Equal(a.DNSNames, b.DNSNames) &&
		slices.Equal(a.IPAddresses, b.IPAddresses) &&
		slices.Equal(a.URIs, b.URIs) &&
		slices.Equal(a.EmailAddresses, b.EmailAddresses) &&
		slices.Equal(a.Usages, b.Usages) &&
		a.Algorithm == b.Algorithm && a.Size == b.Size &&
		a.IsCA == b.IsCA && a.PathLen == b.PathLen &&
		a.NameConstraints.equal(b.NameConstraints)
}

func (s *Subject) equal(o *Subject) bool {
	if s == nil || o == nil {
		return s == o
	}
	for a := attrNone; a < attrCommonName; a++ {
		if !slices.Equal(*s.list(a), *o.list(a)) {
			return false
		}
	}
	return true
}

func (c *NameConstraints) equal(o *NameConstraints) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Critical == o.Critical && c.Permitted.equal(&o.Permitted) && c.Excluded.equal(&o.Excluded)
}

func (n *Names) equal(o *Names) bool {
	return slices.Equal(n.DNSDomains, o.DNSDomains) &&
		slices.Equal(n.IPRanges, o.IPRanges) &&
		slices.Equal(n.EmailAddresses, o.EmailAddresses) &&
		slices.Equal(n.URIDomains, o.URIDomains)
}

// list returns the values of an attribute; attrNone stands for the others.
func (s *Subject) list(a attribute) *[]string {
	switch a {
	case attrCountry:
		return &s.Countries
	case attrProvince:
		return &s.Provinces
	case attrLocality:
		return &s.Localities
	case attrStreetAddress:
		return &s.StreetAddresses
	case attrPostalCode:
		return &s.PostalCodes
	case attrOrganization:
		return &s.Organizations
	case attrOrganizationalUnit:
		return &s.OrganizationalUnits
	case attrSerialNumber:
		return &s.SerialNumber
	case attrEmailAddress:
		return &s.EmailAddress
	}
	return &s.Other
}

// normalSubject sorts the lists in place.
func normalSubject(s Subject) *Subject {
	empty := true
	for a := attrNone; a < attrCommonName; a++ {
		list := s.list(a)
		*list = set(*list)
		empty = empty && len(*list) == 0
	}
	if empty {
		return nil
	}
	return &s
}

func normalConstraints(critical bool, permitted, excluded Names) *NameConstraints {
	if permitted.equal(&Names{}) && excluded.equal(&Names{}) {
		return nil
	}
	return &NameConstraints{critical, permitted, excluded}
}

// normalEmail lower-cases the domain, which alone is case-insensitive (RFC
// 5280, section 7.5). A constraint may be a domain without a mailbox.
func normalEmail(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return s[:i] + strings.ToLower(s[i:])
	}
	return strings.ToLower(s)
}

func normalURI(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.String()
	}
	return s
}

func ipString(ip net.IP) string {
	if a, ok := netip.AddrFromSlice(ip); ok {
		return a.Unmap().String()
	}
	return ip.String()
}

func rangeString(n *net.IPNet) string {
	a, ok := netip.AddrFromSlice(n.IP)
	if ones, bits := n.Mask.Size(); ok && bits == a.BitLen() {
		return netip.PrefixFrom(a, ones).Masked().String()
	}
	return n.String()
}

// set sorts a list in place and drops repetitions; an empty one becomes nil.
func set(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func mapped[T any](list []T, f func(T) string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

func scalar(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// attribute is a type of attribute of a distinguished name.
type attribute int

const (
	attrNone attribute = iota
	attrCountry
	attrProvince
	attrLocality
	attrStreetAddress
	attrPostalCode
	attrOrganization
	attrOrganizationalUnit
	attrSerialNumber
	attrEmailAddress
	attrCommonName
)

// oidEmailAddress is pkcs-9-at-emailAddress (RFC 2985, section 5.2.1).
var oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

func attributeOf(oid asn1.ObjectIdentifier) attribute {
	if len(oid) != 4 || oid[0] != 2 || oid[1] != 5 || oid[2] != 4 {
		if oid.Equal(oidEmailAddress) {
			return attrEmailAddress
		}
		return attrNone
	}
	switch oid[3] { // X.520
	case 3:
		return attrCommonName
	case 5:
		return attrSerialNumber
	case 6:
		return attrCountry
	case 7:
		return attrLocality
	case 8:
		return attrProvince
	case 9:
		return attrStreetAddress
	case 10:
		return attrOrganization
	case 11:
		return attrOrganizationalUnit
	case 17:
		return attrPostalCode
	}
	return attrNone
}
