package spec

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

// TestConstraintsSuitX509 makes certificates with each name under each
// constraint: what Load accepts, crypto/x509 must verify. Load refuses more,
// where the RFC is stricter than crypto/x509; strict marks those.
func TestConstraintsSuitX509(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		field, name, constraint string // constraint: permitted or excluded and its field
		permitted               string
		excluded                string
		strict                  bool
	}{
		{field: "dnsNames", constraint: "dnsDomains", permitted: "example.com", name: "example.com"},
		{field: "dnsNames", constraint: "dnsDomains", permitted: "example.com", name: "a.example.com"},
		{field: "dnsNames", constraint: "dnsDomains", permitted: "example.com", name: "*.example.com"},
		{field: "dnsNames", constraint: "dnsDomains", permitted: "example.com", name: "badexample.com"},
		{field: "dnsNames", constraint: "dnsDomains", permitted: "example.com", name: "*.com"},
		{field: "dnsNames", constraint: "dnsDomains", permitted: ".example.com", name: "example.com"},
		{field: "dnsNames", constraint: "dnsDomains", permitted: ".example.com", name: "a.b.example.com"},
		{field: "dnsNames", constraint: "dnsDomains", excluded: "www.example.com", name: "a.example.com"},
		{field: "dnsNames", constraint: "dnsDomains", excluded: "www.example.com", name: "x.www.example.com"},
		{field: "dnsNames", constraint: "dnsDomains", excluded: "www.example.com", name: "*.example.com", strict: true},
		{field: "ipAddresses", constraint: "ipRanges", permitted: "10.0.0.0/8", name: "10.1.2.3"},
		{field: "ipAddresses", constraint: "ipRanges", permitted: "10.0.0.0/8", name: "11.1.2.3"},
		{field: "ipAddresses", constraint: "ipRanges", permitted: "10.0.0.0/8", name: "2001:db8::1"},
		{field: "ipAddresses", constraint: "ipRanges", excluded: "2001:db8::/32", name: "2001:db8::1"},
		{field: "ipAddresses", constraint: "ipRanges", excluded: "2001:db8::/32", name: "10.0.0.1"},
		{field: "emailAddresses", constraint: "emailAddresses", permitted: "example.com", name: "a@example.com"},
		{field: "emailAddresses", constraint: "emailAddresses", permitted: "example.com", name: "a@b.example.com", strict: true},
		{field: "emailAddresses", constraint: "emailAddresses", permitted: ".example.com", name: "a@b.example.com"},
		{field: "emailAddresses", constraint: "emailAddresses", permitted: ".example.com", name: "a@example.com"},
		{field: "emailAddresses", constraint: "emailAddresses", permitted: "a@example.com", name: "a@example.com"},
		{field: "emailAddresses", constraint: "emailAddresses", permitted: "a@example.com", name: "A@example.com"},
		{field: "emailAddresses", constraint: "emailAddresses", excluded: "example.com", name: "a@example.com"},
		{field: "uris", constraint: "uriDomains", permitted: "example.com", name: "https://example.com/x"},
		{field: "uris", constraint: "uriDomains", permitted: "example.com", name: "https://example.com:8443/x"},
		{field: "uris", constraint: "uriDomains", permitted: "example.com", name: "https://a.example.com/x", strict: true},
		{field: "uris", constraint: "uriDomains", permitted: ".example.com", name: "spiffe://a.example.com/x"},
		{field: "uris", constraint: "uriDomains", permitted: "example.com", name: "urn:a:b"},
		{field: "uris", constraint: "uriDomains", excluded: "example.com", name: "https://10.0.0.1/"},
		{field: "uris", constraint: "uriDomains", excluded: "example.com", name: "https://other.example/"},
	} {
		t.Run(fmt.Sprintf("%s in %q not %q", test.name, test.permitted, test.excluded), func(t *testing.T) {
			constraints := fmt.Sprintf("{permitted: {%s: [%q]}}", test.constraint, test.permitted)
			if test.excluded != "" {
				constraints = fmt.Sprintf("{excluded: {%s: [%q]}}", test.constraint, test.excluded)
			}
			s, err := loadText(fmt.Appendf(nil, `apiVersion: certsync/v1
issuers: {root: {ca: {commonName: root, nameConstraints: %s, files: {combined: root.pem}}}}
certificates: {leaf: {issuer: root, %s: [%q], files: {combined: leaf.pem}}}
`, constraints, test.field, test.name), true)
			accepted := err == nil
			if !accepted {
				var p Problems
				if !errors.As(err, &p) || len(p) != 1 || p[0].Path != "certificates.leaf."+test.field+"[0]" {
					t.Fatal(err)
				}
				// Made without the check, by the same spec without constraints.
				s, err = loadText(fmt.Appendf(nil, `apiVersion: certsync/v1
issuers: {root: {ca: {commonName: root, files: {combined: root.pem}}}, other: {ca: {commonName: root, nameConstraints: %s, files: {combined: other.pem}}}}
certificates: {leaf: {issuer: root, %s: [%q], files: {combined: leaf.pem}}}
`, constraints, test.field, test.name), true)
				if err != nil {
					t.Fatal(err)
				}
			}
			nc := s.Issuers[len(s.Issuers)-1].CA.CA.NameConstraints
			verifyErr := verify(t, key, nc, s.Certificates[0])
			if accepted != (verifyErr == nil) && !(test.strict && !accepted) {
				t.Errorf("accepted: %v; crypto/x509 says %v", accepted, verifyErr)
			}
		})
	}
}

func verify(t *testing.T, key *ecdsa.PrivateKey, nc *NameConstraints, leaf *Certificate) error {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         nc.Permitted.DNSDomains, ExcludedDNSDomains: nc.Excluded.DNSDomains,
		PermittedEmailAddresses: nc.Permitted.EmailAddresses, ExcludedEmailAddresses: nc.Excluded.EmailAddresses,
		PermittedURIDomains: nc.Permitted.URIDomains, ExcludedURIDomains: nc.Excluded.URIDomains,
	}
	for _, p := range nc.Permitted.IPRanges {
		root.PermittedIPRanges = append(root.PermittedIPRanges, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	for _, p := range nc.Excluded.IPRanges {
		root.ExcludedIPRanges = append(root.ExcludedIPRanges, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: leaf.DNSNames, EmailAddresses: leaf.EmailAddresses,
	}
	for _, ip := range leaf.IPAddresses {
		cert.IPAddresses = append(cert.IPAddresses, ip.AsSlice())
	}
	for _, u := range leaf.URIs {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		cert.URIs = append(cert.URIs, parsed)
	}
	sign := func(c, parent *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	anchor := sign(root, root)
	roots := x509.NewCertPool()
	roots.AddCert(anchor)
	_, err := sign(cert, anchor).Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
