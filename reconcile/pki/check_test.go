package pki

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/spec"
)

// wantError fails unless err is as wanted: none if the fragment is empty.
func wantError(t *testing.T, name string, err error, fragment string) {
	t.Helper()
	if (err == nil) != (fragment == "") || err != nil && !strings.Contains(err.Error(), fragment) {
		t.Errorf("%s: got error %v, want %q", name, err, fragment)
	}
}

func TestSignRefuses(t *testing.T) {
	root := issue(t, caSpec("root"), nil)
	other := testKey(t, spec.ECDSA, 256)
	zero, one := 0, 1
	ca := func(change func(*spec.Certificate)) *issued {
		c := caSpec("middle")
		change(c)
		return issue(t, c, root)
	}
	plain := ca(func(*spec.Certificate) {})
	narrow := ca(func(c *spec.Certificate) { c.CA.PathLen = &zero })
	bounded := ca(func(c *spec.Certificate) { c.CA.PathLen = &one })
	dns := ca(func(c *spec.Certificate) {
		c.CA.NameConstraints = &spec.NameConstraints{Critical: true,
			Permitted: spec.Names{DNSDomains: []string{"example.com"}}, Excluded: spec.Names{DNSDomains: []string{"secret.example.com"}}}
	})
	mail := ca(func(c *spec.Certificate) {
		c.CA.NameConstraints = &spec.NameConstraints{Critical: true, Permitted: spec.Names{EmailAddresses: []string{"example.com"}}}
	})
	ip := ca(func(c *spec.Certificate) {
		c.CA.NameConstraints = &spec.NameConstraints{Critical: true,
			Excluded: spec.Names{IPRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	})
	noSign := ca(func(c *spec.Certificate) { c.Usages = []spec.Usage{spec.UsageDigitalSignature} })

	for _, test := range []struct {
		name   string
		parent *issued
		change any // func(*Request) or func(*spec.Certificate)
		want   string
	}{
		{"good", plain, nil, ""},
		{"another key", &issued{plain.cert, other}, nil, "does not match its certificate"},
		{"leaf as issuer", issue(t, leafSpec("x"), root), nil, "not that of a CA"},
		{"no cert sign", noSign, nil, `lacks the usage "cert sign"`},
		{"expired", plain, func(r *Request) { r.Now = plain.cert.NotAfter.Add(time.Second) }, "expired on 2036-"},
		{"not yet valid", plain, func(r *Request) { r.Now = plain.cert.NotBefore.Add(-time.Second) }, "is not valid before 2026-"},
		{"CA below pathLen 0", narrow, func(r *Request) { r.CA = &spec.CA{} }, "its pathLen is 0"},
		{"pathLen too large", bounded, func(r *Request) { r.CA = &spec.CA{PathLen: &one} }, "pathLen 1 is more"},
		{"pathLen that fits", bounded, func(r *Request) { r.CA = &spec.CA{PathLen: &zero} }, ""},
		{"no lifetime", plain, func(r *Request) { r.Duration = 0 }, "lifetime of 0s"},
		{"unknown usage", plain, func(r *Request) { r.Usages = []spec.Usage{"flying"} }, `usage "flying"`},
		{"malformed CSR", plain, func(r *Request) { r.CSR = r.CSR[:10] }, "malformed certificate request"},
		{"forged CSR", plain, func(r *Request) {
			r.CSR = bytes.Replace(r.CSR, []byte("a.example.com"), []byte("b.example.com"), 1)
		}, "verification failure"},
		{"permitted", dns, nil, ""},
		{"excluded", dns, func(c *spec.Certificate) { c.DNSNames = []string{"x.secret.example.com"} }, `"x.secret.example.com" is excluded`},
		{"wildcard over excluded", dns, func(c *spec.Certificate) { c.DNSNames = []string{"*.example.com"} }, `"*.example.com" is excluded`},
		{"not permitted", dns, func(c *spec.Certificate) { c.DNSNames = []string{"badexample.com"} }, "not among those"},
		{"other kinds are free", dns, func(c *spec.Certificate) { c.URIs = []string{"urn:uuid:1"} }, ""},
		{"IP excluded", ip, func(c *spec.Certificate) { c.IPAddresses = []netip.Addr{netip.MustParseAddr("10.1.1.1")} }, `"10.1.1.1" is excluded`},
		{"IP free", ip, func(c *spec.Certificate) { c.IPAddresses = []netip.Addr{netip.MustParseAddr("11.1.1.1")} }, ""},
		{"mail", mail, func(c *spec.Certificate) { c.EmailAddresses = []string{"a@example.com"} }, ""},
		{"mail of another host", mail, func(c *spec.Certificate) { c.EmailAddresses = []string{"a@sub.example.com"} }, "not among those"},
		{"mail in the subject", mail, func(c *spec.Certificate) { c.Subject.EmailAddress = "a@b.org" }, `"a@b.org" is not among those`},
	} {
		c := leafSpec("a.example.com")
		if change, ok := test.change.(func(*spec.Certificate)); ok {
			change(c)
		}
		r := testRequest(t, c, testKey(t, spec.ECDSA, 256))
		if change, ok := test.change.(func(*Request)); ok {
			change(&r)
		}
		cert, err := Sign(r, test.parent.cert, test.parent.key.Signer())
		wantError(t, test.name, err, test.want)
		if err == nil {
			wantError(t, test.name, CheckAnswer(r, Chain{cert, test.parent.cert}, test.parent.cert), "")
		}
	}
	k := testKey(t, spec.ECDSA, 256)
	_, err := SelfSign(testRequest(t, caSpec("x"), k), other)
	wantError(t, "self-signed with another key", err, "for another key")
}

// TestIssuedFollowsRFC5280 checks the profile of section 4, field by field.
func TestIssuedFollowsRFC5280(t *testing.T) {
	two := 2
	rootSpec := caSpec("root")
	rootSpec.CA.PathLen = &two
	rootSpec.CA.NameConstraints = &spec.NameConstraints{Critical: true, Excluded: spec.Names{URIDomains: []string{"x.org"}}}
	root := issue(t, rootSpec, nil)
	leafOf := leafSpec("a.example.com")
	anonymous := leafSpec("b.example.com")
	anonymous.CommonName = ""
	serials := map[string]bool{}

	for _, cert := range []*x509.Certificate{root.cert, issue(t, leafOf, root).cert, issue(t, anonymous, root).cert} {
		name := cert.Subject.CommonName
		if cert.Version != 3 {
			t.Errorf("%s: version %d", name, cert.Version) // 4.1.2.1
		}
		if s := cert.SerialNumber; s.Sign() <= 0 || len(s.Bytes()) > 20 || s.BitLen() < 100 || serials[s.String()] {
			t.Errorf("%s: serial %v", name, s) // 4.1.2.2
		}
		serials[cert.SerialNumber.String()] = true
		if len(cert.SubjectKeyId) != 20 {
			t.Errorf("%s: key identifier %x", name, cert.SubjectKeyId) // 4.2.1.2
		}
		if !bytes.Equal(cert.RawIssuer, cert.RawSubject) && !bytes.Equal(cert.AuthorityKeyId, root.cert.SubjectKeyId) {
			t.Errorf("%s: authority key identifier %x", name, cert.AuthorityKeyId) // 4.2.1.1
		}
		for _, want := range []struct {
			oid      []int
			critical bool
			present  bool
		}{
			{oidKeyUsage, true, true},                                                 // 4.2.1.3
			{oidBasicConstraints, true, true},                                         // 4.2.1.9
			{oidSubjectAltName, name == "", !cert.IsCA},                               // 4.2.1.6
			{oidExtKeyUsage, false, !cert.IsCA},                                       // 4.2.1.12
			{oidNameConstraints, true, cert.IsCA},                                     // 4.2.1.10
			{[]int{2, 5, 29, 14}, false, true},                                        // 4.2.1.2
			{oidAuthorityKeyID, false, !bytes.Equal(cert.RawIssuer, cert.RawSubject)}, // 4.2.1.1
		} {
			e := extension(cert.Extensions, want.oid)
			if (e != nil) != want.present || e != nil && e.Critical != want.critical {
				t.Errorf("%s: extension %v is %+v, want %+v", name, want.oid, e, want)
			}
		}
		if want := testNow.Add(-Backdate).Truncate(time.Second); !cert.NotBefore.Equal(want) {
			t.Errorf("%s: notBefore %v, want %v", name, cert.NotBefore, want)
		}
	}

	// A lifetime is capped on both ends by the issuer's.
	long := leafSpec("c.example.com")
	long.Duration = 100 * 365 * 24 * time.Hour
	r := testRequest(t, long, testKey(t, spec.ECDSA, 256))
	r.Now = root.cert.NotBefore
	cert, err := Sign(r, root.cert, root.key.Signer())
	if err != nil || !cert.NotAfter.Equal(root.cert.NotAfter) || !cert.NotBefore.Equal(root.cert.NotBefore) {
		t.Errorf("%v: %v to %v, want %v to %v", err, cert.NotBefore, cert.NotAfter, root.cert.NotBefore, root.cert.NotAfter)
	}
}

func TestCheckAnswer(t *testing.T) {
	root := issue(t, caSpec("root"), nil)
	sameName := issue(t, caSpec("root"), nil)
	middle := issue(t, caSpec("middle"), root)
	notCA := issue(t, leafSpec("middle"), root)
	c, k := leafSpec("a.example.com"), testKey(t, spec.ECDSA, 256)
	r := testRequest(t, c, k)
	sign := func(by *issued, change func(*x509.Certificate)) *x509.Certificate {
		template, err := newTemplate(r)
		if err != nil {
			t.Fatal(err)
		}
		template.AuthorityKeyId = by.cert.SubjectKeyId
		if change != nil {
			change(template)
		}
		cert, err := create(template, by.cert, by.key.Signer())
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	good := sign(middle, nil)
	byNotCA := &issued{notCA.cert, notCA.key}

	for _, test := range []struct {
		name   string
		chain  Chain
		issuer *x509.Certificate
		want   string
	}{
		{"good", Chain{good, middle.cert}, middle.cert, ""},
		{"good, without chain", Chain{good}, middle.cert, ""},
		{"good, issuer unknown", Chain{good, middle.cert}, nil, ""},
		{"good, to the root", Chain{good, middle.cert, root.cert}, nil, ""},
		{"altered names", Chain{sign(middle, func(c *x509.Certificate) { c.DNSNames = []string{"x"} })}, middle.cert, ""},
		{"nothing", nil, middle.cert, "no certificate"},
		{"another key", Chain{issue(t, c, middle).cert}, middle.cert, "for another key"},
		{"expired", Chain{sign(middle, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) })}, middle.cert, "expired on 2026-03-01T11:59:59Z"},
		{"in the future", Chain{sign(middle, func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Hour) })}, middle.cert, "not valid before 2026-03-01T13:00:00Z"},
		{"a little in the future", Chain{sign(middle, func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Minute) })}, middle.cert, ""},
		{"a CA", Chain{sign(middle, func(c *x509.Certificate) { c.IsCA = true })}, middle.cert, "which was not asked for"},
		{"signed by another", Chain{sign(root, nil)}, middle.cert, "issuer of another name"},
		{"signed by another of that name", Chain{sign(sameName, nil)}, root.cert, "another key of the issuer"},
		{"the same, not told", Chain{sign(sameName, func(c *x509.Certificate) { c.AuthorityKeyId = root.cert.SubjectKeyId })}, root.cert, "not signed by the issuer's key"},
		{"chain in disorder", Chain{good, root.cert, middle.cert}, middle.cert, "certificate 1 of the issuer's chain is not"},
		{"chain that does not belong", Chain{good, sameName.cert}, middle.cert, "certificate 1 of the issuer's chain is not"},
		{"chain through no CA", Chain{sign(byNotCA, nil), notCA.cert}, nil, "certificate 2 of the issuer's chain is not that of a CA"},
	} {
		if test.name == "the same, not told" {
			test.chain = Chain{signWithKeyOf(t, r, root.cert, sameName.key)}
		}
		wantError(t, test.name, CheckAnswer(r, test.chain, test.issuer), test.want)
	}
	r.CA = &spec.CA{}
	wantError(t, "no CA", CheckAnswer(r, Chain{good}, middle.cert), "which was asked for")
}

// signWithKeyOf signs as if by issuer, with a key that is not its.
func signWithKeyOf(t *testing.T, r Request, issuer *x509.Certificate, k *Key) *x509.Certificate {
	t.Helper()
	template, err := newTemplate(r)
	if err != nil {
		t.Fatal(err)
	}
	template.AuthorityKeyId = issuer.SubjectKeyId
	parent := *issuer
	parent.PublicKey = nil // crypto/x509 would refuse
	cert, err := create(template, &parent, k.Signer())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestSignedByReplacedCA: same subject, new key (the names alone would match).
func TestSignedByReplacedCA(t *testing.T) {
	before, after := issue(t, caSpec("root"), nil), issue(t, caSpec("root"), nil)
	leaf := issue(t, leafSpec("a.example.com"), before)
	wantError(t, "old", SignedBy(leaf.cert, before.cert), "")
	wantError(t, "new", SignedBy(leaf.cert, after.cert), "another key of the issuer")
	anonymous := *after.cert
	anonymous.SubjectKeyId = nil
	wantError(t, "new, without key identifier", SignedBy(leaf.cert, &anonymous), "not signed by the issuer's key")
	wantError(t, "leaf", SignedBy(leaf.cert, leaf.cert), "another name")
}

func TestSubjectEncoding(t *testing.T) {
	openssl := requireOpenSSL(t)
	c := caSpec("ca")
	c.CommonName = "*.example.com"
	c.Subject = spec.Subject{
		Countries: []string{"DE"}, Provinces: []string{"Köln"}, Localities: []string{"a, b"}, StreetAddresses: []string{"Weg 1"},
		PostalCodes: []string{"50667"}, Organizations: []string{"one", "two", strings.Repeat("x", 300)}, OrganizationalUnits: []string{"u"},
		SerialNumber: "4711", EmailAddress: "a@b.c",
	}
	cert := issue(t, c, nil).cert
	dir := t.TempDir()
	write(t, dir, "c", EncodeCertificates(cert))
	out := strings.TrimSpace(openssl(dir, "x509", "-in", "c", "-noout", "-subject", "-nameopt", "sep_comma_plus_space,utf8,esc_2253,show_type"))
	want := `subject=C=PRINTABLESTRING:DE, ST=UTF8STRING:Köln, L=PRINTABLESTRING:a\, b, street=PRINTABLESTRING:Weg 1, ` +
		`postalCode=PRINTABLESTRING:50667, O=PRINTABLESTRING:one, O=PRINTABLESTRING:two, O=PRINTABLESTRING:` + strings.Repeat("x", 300) +
		`, OU=PRINTABLESTRING:u, CN=UTF8STRING:*.example.com, serialNumber=PRINTABLESTRING:4711, emailAddress=IA5STRING:a@b.c`
	if out != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if got, want := SubjectString(cert.Subject), `C=DE, ST=Köln, L=a\, b, street=Weg 1, postalCode=50667, O=one, O=two, O=`+
		strings.Repeat("x", 300)+`, OU=u, CN=*.example.com, serialNumber=4711, emailAddress=a@b.c`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []spec.Subject{{Countries: []string{"Ö"}}, {SerialNumber: "a_b"}, {EmailAddress: "ö@b"}, {Organizations: []string{"\xff"}}} {
		if _, err := NewCSR(&spec.Certificate{Subject: bad}, testKey(t, spec.ECDSA, 256)); err == nil {
			t.Errorf("%+v was encoded", bad)
		}
	}
}

func TestCSRIsReadByOpenSSL(t *testing.T) {
	openssl := requireOpenSSL(t)
	c := leafSpec("a.example.com")
	c.IPAddresses = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	c.URIs, c.EmailAddresses = []string{"spiffe://x/y"}, []string{"a@b.c"}
	r := testRequest(t, c, testKey(t, spec.Ed25519, 0))
	dir := t.TempDir()
	write(t, dir, "c", r.CSR)
	out := openssl(dir, "req", "-inform", "DER", "-in", "c", "-noout", "-text", "-verify")
	for _, want := range []string{"DNS:a.example.com", "IP Address:2001:DB8:0:0:0:0:0:1", "URI:spiffe://x/y", "email:a@b.c", "Digital Signature", "TLS Web Server Authentication"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

func TestSerialsAreRandom(t *testing.T) {
	var all []*big.Int
	for range 1000 {
		all = append(all, newSerial())
	}
	slices.SortFunc(all, (*big.Int).Cmp)
	if n := len(slices.CompactFunc(all, func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); n != 1000 {
		t.Errorf("%d different serials of 1000", n)
	}
}
