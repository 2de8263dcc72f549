package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/certsync/certsync/spec"
)

// forge makes a certificate of any content: a CA named name, or what change
// makes of it, signed by parent or by itself.
func forge(t testing.TB, name string, parent *issued, change func(*x509.Certificate)) *issued {
	t.Helper()
	k := testKey(t, spec.ECDSA, 256)
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1,
	}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent = &issued{template, k}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, k.Public(), parent.key.Signer())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, k}
}

// asLeaf makes a server's certificate of what forge starts with.
func asLeaf(changes ...func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.DNSNames = []string{"www.example.com", "*.wild.example.com"}
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1")}
		for _, change := range changes {
			change(c)
		}
	}
}

func certs(list ...*issued) []*x509.Certificate {
	var out []*x509.Certificate
	for _, i := range list {
		out = append(out, i.cert)
	}
	return out
}

func critical(oid ...int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: true, Value: []byte{5, 0}})
	}
}

func TestVerify(t *testing.T) {
	root := forge(t, "root", nil, nil)
	middle := forge(t, "middle", root, nil)
	leaf := forge(t, "leaf", middle, asLeaf())
	under := func(name string, ca func(*x509.Certificate), changes ...func(*x509.Certificate)) [2]*issued {
		m := forge(t, name, root, ca)
		return [2]*issued{forge(t, "leaf", m, asLeaf(changes...)), m}
	}
	options := func(change func(*VerifyOptions)) VerifyOptions {
		o := VerifyOptions{Trust: certs(root), Untrusted: certs(middle), At: testNow}
		if change != nil {
			change(&o)
		}
		return o
	}
	permit := func(domain string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{domain}, true
		}
	}
	withName := func(name string) func(o *VerifyOptions) { return func(o *VerifyOptions) { o.Name = name } }
	withPurpose := func(p string) func(o *VerifyOptions) { return func(o *VerifyOptions) { o.Purpose = p } }
	at := func(d time.Duration) func(o *VerifyOptions) { return func(o *VerifyOptions) { o.At = testNow.Add(d) } }

	for _, test := range []struct {
		name   string
		cert   *issued
		change func(*VerifyOptions)
		want   string
	}{
		{"good", leaf, nil, ""},
		{"good in disorder", leaf, func(o *VerifyOptions) { o.Untrusted = certs(leaf, root, middle, middle) }, ""},
		{"intermediate trusted", leaf, func(o *VerifyOptions) { o.Trust, o.Untrusted = certs(middle), nil }, ""},
		{"leaf itself trusted", leaf, func(o *VerifyOptions) { o.Trust, o.Untrusted = certs(leaf), nil }, ""},
		{"root as leaf", root, nil, ""},
		{"no time", leaf, func(o *VerifyOptions) { o.At = time.Time{} }, "no time given"},
		{"no trust", leaf, func(o *VerifyOptions) { o.Trust = nil }, `no chain to a trusted root: the issuer of certificate "CN=middle", "CN=root", is not among`},
		{"intermediate missing", leaf, func(o *VerifyOptions) { o.Untrusted = nil }, `the issuer of certificate "CN=leaf", "CN=middle", is not among`},
		{"root untrusted", leaf, func(o *VerifyOptions) { o.Trust, o.Untrusted = nil, certs(middle, root) }, `certificate "CN=root" is self-signed, and not trusted`},
		{"other root of that name", leaf, func(o *VerifyOptions) { o.Trust = certs(forge(t, "root", nil, nil)) }, `"CN=middle" is not signed by the key of "CN=root"`},
		{"one of two roots of that name", leaf, func(o *VerifyOptions) { o.Trust = certs(forge(t, "root", nil, nil), root) }, ""},

		{"server", leaf, withPurpose("server"), ""},
		{"client", leaf, withPurpose("client"), `is not for a client: it lacks the usage "client auth"`},
		{"any", leaf, withPurpose("any"), ""},
		{"unknown purpose", leaf, withPurpose("cook"), `purpose "cook" is not known`},

		{"DNS name", leaf, withName("WWW.example.com"), ""},
		{"wildcard", leaf, withName("a.wild.example.com"), ""},
		{"wildcard, two labels", leaf, withName("b.a.wild.example.com"), "is not for"},
		{"wildcard, no label", leaf, withName("wild.example.com"), "is not for"},
		{"common name does not count", leaf, withName("leaf"), `is not for "leaf", but for www.example.com, *.wild.example.com`},
		{"IP", leaf, withName("192.0.2.1"), ""},
		{"other IP", leaf, withName("192.0.2.2"), `is not for "192.0.2.2", but for 192.0.2.1`},
		{"star alone", forge(t, "leaf", middle, asLeaf(func(c *x509.Certificate) { c.DNSNames = []string{"*"} })), withName("localhost"), "is not for"},

		{"expired", leaf, at(2 * time.Hour), `certificate "CN=leaf" expired on 2026-03-01T13:00:00Z`},
		{"not yet", leaf, at(-2 * time.Hour), `certificate "CN=leaf" is not valid before 2026-03-01T11:00:00Z`},
		{"last instant", leaf, func(o *VerifyOptions) { o.At = leaf.cert.NotAfter }, ""},
		{"unknown critical extension", forge(t, "leaf", middle, asLeaf(critical(1, 2, 3))), nil, "critical extension that is not known: 1.2.3"},
		{"leaf signs a leaf", forge(t, "x", leaf, asLeaf()), func(o *VerifyOptions) { o.Untrusted = certs(middle, leaf) }, `"CN=leaf" signed another one, but is not that of a CA`},
	} {
		o := options(test.change)
		chains, err := Verify(test.cert.cert, o)
		wantError(t, test.name, err, test.want)
		if err == nil && (len(chains) == 0 || !chains[0][0].Equal(test.cert.cert) || !isOneOf(chains[0][len(chains[0])-1], o.Trust)) {
			t.Errorf("%s: chains %v", test.name, chains)
		}
	}

	for _, test := range []struct {
		name string
		pair [2]*issued
		want string
	}{
		{"intermediate expired", under("m", func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Minute) }), `certificate "CN=m" expired on`},
		{"intermediate no CA", under("m", func(c *x509.Certificate) { c.IsCA = false }), "not that of a CA"},
		{"intermediate without basic constraints", under("m", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }), "not that of a CA"},
		{"intermediate without cert sign", under("m", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), `lacks the usage "cert sign"`},
		{"intermediate without key usage", under("m", func(c *x509.Certificate) { c.KeyUsage = 0 }), ""},
		{"intermediate with critical extension", under("m", critical(1, 2, 3)), `"CN=m" has a critical extension`},
		{"intermediate for clients", under("m", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), `"CN=m" is not for a server`},
		{"pathLen 0", under("m", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), ""},
		{"permitted", under("m", permit("example.com")), ""},
		{"not permitted", under("m", permit("example.org")), `outside what CA "CN=m" may sign: DNS name "www.example.com" is not among`},
		{"excluded", under("m", func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"a.wild.example.com"} }), `"*.wild.example.com" is excluded`},
		{"IP not permitted", under("m", func(c *x509.Certificate) {
			c.PermittedIPRanges = []*net.IPNet{{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}
		}), `IP address "192.0.2.1" is not among`},
		{"URI without host under a DNS constraint", under("m", permit("example.com"), func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "x"}} }), ""},
		{"URI without host under a URI constraint", under("m", func(c *x509.Certificate) { c.PermittedURIDomains = []string{"x.org"} },
			func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "x"}} }), "has no host name"},
		{"URI host is no domain", under("m", func(c *x509.Certificate) { c.PermittedURIDomains = []string{"x.org"} },
			func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "https", Host: "a.x.org"}} }), "not among"},
		{"directory name permitted", under("m", directory(0, "CN=leaf")), ""},
		{"directory name not permitted", under("m", directory(0, "CN=other")), "directory name"},
		{"directory name excluded", under("m", directory(1, "CN=LEAF")), "directory name"},
		{"other constraint", under("m", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true, Value: der(derSequence, der(0xa0, der(derSequence, der(0x88, []byte{42}))))}}
		}), "of a kind that is not supported"},
		{"policy required, and there", under("m", requirePolicy(1), withPolicy(1)), ""},
		{"policy required, another there", under("m", requirePolicy(1), withPolicy(2)), "requires certificate policies"},
		{"policy required, none there", under("m", requirePolicy(1)), "requires certificate policies"},
	} {
		_, err := Verify(test.pair[0].cert, VerifyOptions{Trust: certs(root), Untrusted: certs(test.pair[1]), Purpose: "server", At: testNow})
		wantError(t, test.name, err, test.want)
	}
}

func directory(tag byte, name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		raw, _ := asn1.Marshal(pkix.Name{CommonName: name[3:]}.ToRDNSequence())
		c.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true,
			Value: der(derSequence, der(0xa0|tag, der(derSequence, der(0xa4, raw))))}}
	}
}

func policy(n uint64) []x509.OID {
	oid, err := x509.OIDFromInts([]uint64{1, 2, 3, n})
	if err != nil {
		panic(err)
	}
	return []x509.OID{oid}
}

func withPolicy(n uint64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Policies = policy(n) }
}

func requirePolicy(n uint64) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Policies = policy(n)
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: der(derSequence, der(0x80, []byte{0}))}}
	}
}

func TestVerifyRoots(t *testing.T) {
	expired := forge(t, "root", nil, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Minute) })
	noCA := forge(t, "root", nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false })
	short := forge(t, "root", nil, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	narrow := forge(t, "root", nil, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} })
	old := &issued{v1(t, "root"), nil}
	for _, test := range []struct {
		name string
		root *issued
		want string
	}{
		{"expired", expired, `"CN=root" expired`},
		{"version 3 without CA", noCA, "not that of a CA"},
		{"pathLen", short, `pathLen of CA "CN=root" is 0, but the chain has 1 below it`},
		{"constraints", narrow, "is not among"},
	} {
		middle := forge(t, "middle", test.root, nil)
		leaf := forge(t, "leaf", middle, asLeaf())
		_, err := Verify(leaf.cert, VerifyOptions{Trust: certs(test.root), Untrusted: certs(middle), At: testNow})
		wantError(t, test.name, err, test.want)
	}
	if old.cert.Version != 1 {
		t.Fatal("not of version 1")
	}
	wantError(t, "version 1, as anchor", verifyCA(old.cert, true), "")
	wantError(t, "version 1, as intermediate", verifyCA(old.cert, false), "not that of a CA")
}

// v1 has openssl make a certificate of X.509 version 1, as tutorials do.
func v1(t *testing.T, name string) *x509.Certificate {
	openssl, dir := requireOpenSSL(t), t.TempDir()
	openssl(dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k", "-subj", "/CN="+name, "-out", "r")
	openssl(dir, "x509", "-req", "-in", "r", "-signkey", "k", "-out", "c")
	list, err := ParseCertificates([]byte(read(t, dir, "c")))
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// TestVerifySelfIssued: a CA that got a new key signs it with the old one; that
// does not count against pathLen, nor do constraints apply to it.
func TestVerifySelfIssued(t *testing.T) {
	root := forge(t, "root", nil, func(c *x509.Certificate) {
		c.MaxPathLen, c.MaxPathLenZero = 0, true
		c.ExcludedDNSDomains = []string{"root.example"}
	})
	next := forge(t, "root", root, func(c *x509.Certificate) { c.DNSNames = []string{"root.example"} })
	leaf := forge(t, "leaf", next, asLeaf())
	_, err := Verify(leaf.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(next), At: testNow})
	wantError(t, "self-issued", err, "")
}

// TestVerifyTriesAllPaths: two intermediates of one name and key, one of no use.
func TestVerifyTriesAllPaths(t *testing.T) {
	root, other := forge(t, "root", nil, nil), forge(t, "other", nil, nil)
	good := forge(t, "middle", root, nil)
	cross := func(parent *issued, change func(*x509.Certificate)) *issued {
		template := *good.cert
		template.SerialNumber = newSerial()
		if change != nil {
			change(&template)
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, parent.cert, good.key.Public(), parent.key.Signer())
		if err != nil {
			t.Fatal(err)
		}
		cert, _ := x509.ParseCertificate(der)
		return &issued{cert, good.key}
	}
	bad := cross(root, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) })
	leaf := forge(t, "leaf", good, asLeaf())
	for _, untrusted := range [][]*x509.Certificate{certs(bad, good), certs(good, bad)} {
		chains, err := Verify(leaf.cert, VerifyOptions{Trust: certs(root), Untrusted: untrusted, At: testNow})
		wantError(t, "two paths", err, "")
		if len(chains) != 1 {
			t.Errorf("%d chains", len(chains))
		}
	}
	chains, err := Verify(leaf.cert, VerifyOptions{Trust: certs(root, other), Untrusted: certs(good, bad, cross(other, nil)), At: testNow})
	wantError(t, "cross-signed", err, "")
	if len(chains) != 2 {
		t.Errorf("%d chains", len(chains))
	}

	// Many that sign each other must not keep us busy.
	var loop []*issued
	for i := range 30 {
		loop = append(loop, cross(good, func(c *x509.Certificate) { c.Subject.SerialNumber, c.RawSubject = "", good.cert.RawSubject; _ = i }))
	}
	start := time.Now()
	_, err = Verify(leaf.cert, VerifyOptions{Trust: certs(other), Untrusted: certs(loop...), At: testNow})
	wantError(t, "loop", err, "no chain to a trusted root")
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestVerifyNames: names match by RFC 5280, section 7.1.
func TestVerifyNames(t *testing.T) {
	root := forge(t, "root", nil, nil)
	for _, test := range []struct{ name, issuer, want string }{
		{"case and space", "  mY   ca ", ""},
		{"other", "myca", "is not among the given"},
	} {
		ca := forge(t, "My CA", root, nil)
		alias := *ca.cert
		alias.RawSubject, _ = asn1.Marshal(pkix.Name{CommonName: test.issuer}.ToRDNSequence())
		leaf := forge(t, "leaf", &issued{&alias, ca.key}, asLeaf())
		_, err := Verify(leaf.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(ca), At: testNow})
		wantError(t, test.name, err, test.want)
	}
}

func TestVerifyCRLs(t *testing.T) {
	root, leafPoint := forge(t, "root", nil, nil), "http://example.com/leaf.crl"
	middle := forge(t, "middle", root, nil)
	leaf := forge(t, "leaf", middle, asLeaf(func(c *x509.Certificate) { c.CRLDistributionPoints = []string{leafPoint} }))
	twin := forge(t, "middle", nil, nil) // the name of middle, another key
	list := func(by *issued, change func(*x509.RevocationList), revoked ...x509.RevocationListEntry) *x509.RevocationList {
		template := &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: testNow.Add(-time.Minute), NextUpdate: testNow.Add(time.Minute),
			RevokedCertificateEntries: revoked,
		}
		if change != nil {
			change(template)
		}
		raw, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key.Signer())
		if err != nil {
			t.Fatal(err)
		}
		crl, err := x509.ParseRevocationList(raw)
		if err != nil {
			t.Fatal(err)
		}
		return crl
	}
	entry := func(cert *issued, at time.Time, reason int) x509.RevocationListEntry {
		return x509.RevocationListEntry{SerialNumber: cert.cert.SerialNumber, RevocationTime: at, ReasonCode: reason}
	}
	extend := func(oid asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
		}
	}
	scope := func(parts ...[]byte) func(*x509.RevocationList) {
		return extend(oidDistributionPoint, true, der(derSequence, parts...))
	}
	point := func(uri string) []byte { return der(0xa0, der(0xa0, der(0x86, []byte(uri)))) }
	yes := []byte{0xff}
	ofRoot := list(root, nil)
	revokedLeaf := entry(leaf, testNow.Add(-time.Minute), 1)
	withExtension := func(oid asn1.ObjectIdentifier) x509.RevocationListEntry {
		e := entry(root, testNow, 0)
		e.ExtraExtensions = []pkix.Extension{{Id: oid, Critical: true, Value: der(derSequence)}}
		return e
	}
	issuerName, _ := asn1.Marshal(pkix.Name{CommonName: "MIDDLE"}.ToRDNSequence())

	for _, test := range []struct {
		name string
		crls []*x509.RevocationList
		want string
	}{
		{"good", []*x509.RevocationList{list(middle, nil), ofRoot}, ""},
		{"revoked", []*x509.RevocationList{list(middle, nil, revokedLeaf), ofRoot}, `certificate "CN=leaf" was revoked on 2026-03-01T11:59:00Z (key compromise)`},
		{"another is revoked", []*x509.RevocationList{list(middle, nil, entry(root, testNow, 1)), ofRoot}, ""},
		{"revoked later", []*x509.RevocationList{list(middle, nil, entry(leaf, testNow.Add(time.Second), 1)), ofRoot}, ""},
		{"CA revoked", []*x509.RevocationList{list(middle, nil), list(root, nil, entry(middle, testNow.Add(-time.Hour), 2))}, `"CN=middle" was revoked on 2026-03-01T11:00:00Z (CA compromise)`},
		{"removed", []*x509.RevocationList{list(middle, nil, entry(leaf, testNow.Add(-time.Minute), 8)), ofRoot}, ""},
		{"hold released since", []*x509.RevocationList{list(middle, func(l *x509.RevocationList) { l.ThisUpdate = testNow.Add(-time.Hour) }, revokedLeaf), list(middle, nil), ofRoot}, ""},
		{"revoked since", []*x509.RevocationList{list(middle, nil, revokedLeaf), list(middle, func(l *x509.RevocationList) { l.ThisUpdate = testNow.Add(-time.Hour) }), ofRoot}, "was revoked"},
		{"none for the leaf", []*x509.RevocationList{ofRoot}, `no CRL for certificate "CN=leaf", issued by "CN=middle"`},
		{"none for the CA", []*x509.RevocationList{list(middle, nil)}, `no CRL for certificate "CN=middle"`},
		{"expired", []*x509.RevocationList{list(middle, func(l *x509.RevocationList) { l.NextUpdate = testNow }), ofRoot}, `the CRL of "CN=middle", issued on 2026-03-01T11:59:00Z, expired on 2026-03-01T12:00:00Z`},
		{"not yet valid", []*x509.RevocationList{list(middle, func(l *x509.RevocationList) { l.ThisUpdate = testNow.Add(30 * time.Second) }), ofRoot}, "is not valid yet"},
		{"forged", []*x509.RevocationList{list(twin, nil), ofRoot}, "is not signed by the key of"},
		{"delta", []*x509.RevocationList{list(middle, extend(oidDeltaCRL, true, []byte{2, 1, 1})), ofRoot}, "is a delta CRL"},
		{"unknown critical extension", []*x509.RevocationList{list(middle, extend(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0})), ofRoot}, "critical extension that is not known: 1.2.3"},
		{"unknown extension", []*x509.RevocationList{list(middle, extend(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0})), ofRoot}, ""},
		{"unknown critical entry extension", []*x509.RevocationList{list(middle, nil, withExtension(asn1.ObjectIdentifier{1, 2, 3})), ofRoot}, "has an entry with a critical extension"},
		{"indirect entry", []*x509.RevocationList{list(middle, nil, withExtension(oidCertificateIssuer)), ofRoot}, "is an indirect CRL"},
		{"indirect", []*x509.RevocationList{list(middle, scope(der(0x84, yes))), ofRoot}, "is an indirect CRL"},
		{"some reasons", []*x509.RevocationList{list(middle, scope(der(0x83, []byte{6, 0x40}))), ofRoot}, "covers only some reasons"},
		{"attribute certificates", []*x509.RevocationList{list(middle, scope(der(0x85, yes))), ofRoot}, "covers only attribute certificates"},
		{"user certificates", []*x509.RevocationList{list(middle, scope(der(0x81, yes))), ofRoot}, ""},
		{"user certificates, for a CA", []*x509.RevocationList{list(middle, nil), list(root, scope(der(0x81, yes)))}, "does not cover CAs"},
		{"CAs", []*x509.RevocationList{list(middle, nil), list(root, scope(der(0x82, yes)))}, ""},
		{"CAs, for a leaf", []*x509.RevocationList{list(middle, scope(der(0x82, yes))), ofRoot}, "covers only CAs"},
		{"point", []*x509.RevocationList{list(middle, scope(point(leafPoint))), ofRoot}, ""},
		{"point, revoked", []*x509.RevocationList{list(middle, scope(point(leafPoint)), revokedLeaf), ofRoot}, "was revoked"},
		{"other point", []*x509.RevocationList{list(middle, scope(point("http://example.com/other.crl"))), ofRoot}, "for a distribution point that the certificate does not name"},
		{"point of a certificate without", []*x509.RevocationList{list(middle, nil), list(root, scope(point(leafPoint)))}, "for a distribution point"},
		{"malformed scope", []*x509.RevocationList{list(middle, extend(oidDistributionPoint, true, []byte{5, 0})), ofRoot}, "malformed issuing distribution point"},
		{"useless one and good one", []*x509.RevocationList{list(middle, scope(der(0x84, yes)), revokedLeaf), list(middle, nil), ofRoot}, ""},
	} {
		_, err := Verify(leaf.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(middle), CRLs: test.crls, At: testNow})
		wantError(t, test.name, err, test.want)
	}

	// Points named by directory name, whole and relative to the issuer's.
	for i, value := range [][]byte{
		der(derSequence, der(derSequence, der(0xa0, der(0xa0, der(0xa4, issuerName))))),
		der(derSequence, der(derSequence, der(0xa2, der(0xa4, issuerName)))),
	} {
		cert := forge(t, "leaf", middle, asLeaf(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidDistributionPoints, Value: value}}
		}))
		crl := list(middle, scope(der(0xa0, der(0xa0, der(0xa4, middle.cert.RawSubject)))))
		_, err := Verify(cert.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(middle), CRLs: []*x509.RevocationList{crl, ofRoot}, At: testNow})
		wantError(t, fmt.Sprint("directory name ", i), err, "")
	}
	rdn := der(derSequence, derOID(asn1.ObjectIdentifier{2, 5, 4, 3}), der(asn1.TagUTF8String, []byte("crl1")))
	whole, _ := asn1.Marshal(pkix.RDNSequence{
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "middle"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "crl1"}}})
	// In certificates crypto/x509 does not read the relative form.
	cert := forge(t, "leaf", middle, asLeaf(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidDistributionPoints, Value: der(derSequence, der(derSequence, der(0xa0, der(0xa0, der(0xa4, whole)))))}}
	}))
	crl := list(middle, scope(der(0xa0, der(0xa1, rdn))))
	_, err := Verify(cert.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(middle), CRLs: []*x509.RevocationList{crl, ofRoot}, At: testNow})
	wantError(t, "relative name", err, "")

	noUsage := forge(t, "m", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	signer := *noUsage.cert
	signer.KeyUsage |= x509.KeyUsageCRLSign // or crypto/x509 would not make one
	crl = list(&issued{&signer, noUsage.key}, nil)
	below := forge(t, "leaf", noUsage, asLeaf())
	_, err = Verify(below.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(noUsage), CRLs: []*x509.RevocationList{crl, ofRoot}, At: testNow})
	wantError(t, "no crl sign", err, `lacks the usage "crl sign"`)
}

func TestParseCRLs(t *testing.T) {
	root := forge(t, "root", nil, nil)
	raw, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow, NextUpdate: testNow.Add(1)}, root.cert, root.key.Signer())
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: raw})
	for _, test := range []struct {
		name string
		data []byte
		n    int
		want string
	}{
		{"DER", raw, 1, ""},
		{"PEM", text, 1, ""},
		{"two among others", bytes.Join([][]byte{text, EncodeCertificates(root.cert), text}, []byte("text\n")), 2, ""},
		{"none", EncodeCertificates(root.cert), 0, "no CRL found"},
		{"cut off", text[:len(text)-30], 0, "incomplete PEM block"},
		{"trailing data", append(bytes.Clone(raw), 0), 0, "trailing data"},
		{"not DER of a CRL", root.cert.Raw, 0, "malformed CRL"},
	} {
		got, err := ParseCRLs(test.data)
		wantError(t, test.name, err, test.want)
		if len(got) != test.n {
			t.Errorf("%s: %d CRLs", test.name, len(got))
		}
	}
}
