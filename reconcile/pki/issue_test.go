package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/spec"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)

// issued is a certificate of the tests, with its key.
type issued struct {
	cert *x509.Certificate
	key  *Key
}

func testKey(t testing.TB, a spec.Algorithm, size int) *Key {
	t.Helper()
	k, err := GenerateKey(a, size)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testRequest(t testing.TB, c *spec.Certificate, k *Key) Request {
	t.Helper()
	if c.Duration == 0 {
		c.Duration = 90 * 24 * time.Hour
	}
	r, err := NewRequest(c, k, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// issue signs a certificate for c with a new ECDSA key, by parent or by itself.
func issue(t testing.TB, c *spec.Certificate, parent *issued) *issued {
	t.Helper()
	if c.PrivateKey.Algorithm == "" {
		c.PrivateKey = spec.PrivateKey{Algorithm: spec.ECDSA, Size: 256}
	}
	k := testKey(t, c.PrivateKey.Algorithm, c.PrivateKey.Size)
	r := testRequest(t, c, k)
	var cert *x509.Certificate
	var err error
	if parent == nil {
		cert, err = SelfSign(r, k)
	} else {
		cert, err = Sign(r, parent.cert, parent.key.Signer())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, k}
}

func caSpec(name string) *spec.Certificate {
	return &spec.Certificate{
		ID:         spec.ID{Kind: spec.KindIssuer, Name: name},
		CommonName: name,
		Usages:     []spec.Usage{spec.UsageCertSign, spec.UsageCRLSign},
		Duration:   10 * 365 * 24 * time.Hour,
		CA:         &spec.CA{},
	}
}

func leafSpec(names ...string) *spec.Certificate {
	return &spec.Certificate{
		ID:         spec.ID{Kind: spec.KindCertificate, Name: "leaf"},
		CommonName: names[0],
		DNSNames:   names,
		Usages:     []spec.Usage{spec.UsageDigitalSignature, spec.UsageServerAuth},
	}
}

func TestIssueQuickstart(t *testing.T) {
	openssl := requireOpenSSL(t)
	root := caSpec("k8sca")
	root.Subject = spec.Subject{
		Countries: []string{"CN"}, Provinces: []string{"Guangdong"}, Localities: []string{"Shenzhen"},
		Organizations: []string{"k8stest"}, OrganizationalUnits: []string{"tester"}, EmailAddress: "test@k8s.ca",
	}
	root.PrivateKey = spec.PrivateKey{Algorithm: spec.RSA, Size: 2048}
	ca := issue(t, root, nil)
	leaf := leafSpec("localhost")
	leaf.IPAddresses = []netip.Addr{netip.MustParseAddr("192.168.0.104")}
	server := issue(t, leaf, ca)

	for _, pair := range []struct {
		want *spec.Certificate
		got  *x509.Certificate
	}{{root, ca.cert}, {leaf, server.cert}} {
		want, have := Wanted(pair.want), IdentityOf(pair.got)
		if d := Compare(&have, &want); d != nil || !have.Equal(&want) {
			t.Errorf("%s: issued differs from wanted: %v", pair.want.Name, d)
		}
	}
	if err := SignedBy(server.cert, ca.cert); err != nil {
		t.Error(err)
	}

	dir := t.TempDir()
	write(t, dir, "ca.crt", EncodeCertificates(ca.cert))
	write(t, dir, "leaf.crt", EncodeCertificates(server.cert))
	if out := openssl(dir, "verify", "-attime", "1772366400", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver",
		"-verify_ip", "192.168.0.104", "-CAfile", "ca.crt", "leaf.crt"); !strings.Contains(out, "OK") {
		t.Error(out)
	}
	out := openssl(dir, "x509", "-in", "ca.crt", "-noout", "-subject", "-nameopt", "sep_comma_plus_space,utf8")
	if want := "subject=C=CN, ST=Guangdong, L=Shenzhen, O=k8stest, OU=tester, CN=k8sca, emailAddress=test@k8s.ca"; strings.TrimSpace(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if out := openssl(dir, "asn1parse", "-in", "ca.crt"); !strings.Contains(out, "IA5STRING         :test@k8s.ca") {
		t.Error(out)
	}
}

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// marshalKeyUsage and marshalExtKeyUsage are compared with what crypto/x509 makes.
func TestRequestedExtensionsMatchIssued(t *testing.T) {
	for _, usages := range [][]spec.Usage{
		{spec.UsageDigitalSignature},
		{spec.UsageDigitalSignature, spec.UsageKeyEncipherment, spec.UsageServerAuth, spec.UsageClientAuth},
		{spec.UsageKeyAgreement, spec.UsageDecipherOnly},
		{spec.UsageCertSign, spec.UsageCRLSign},
		spec.Usages,
	} {
		c := caSpec("ca")
		zero := 0
		c.Usages, c.CA.PathLen = usages, &zero
		k := testKey(t, spec.ECDSA, 256)
		r := testRequest(t, c, k)
		csr, err := x509.ParseCertificateRequest(r.CSR)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := SelfSign(r, k)
		if err != nil {
			t.Fatal(err)
		}
		for _, oid := range []asn1.ObjectIdentifier{oidKeyUsage, oidExtKeyUsage, oidBasicConstraints} {
			asked, got := extension(csr.Extensions, oid), extension(cert.Extensions, oid)
			if (asked == nil) != (got == nil) || asked != nil && (!bytes.Equal(asked.Value, got.Value) || asked.Critical != got.Critical) {
				t.Errorf("%v: %v: asked for %v, got %v", usages, oid, asked, got)
			}
		}
	}
}
