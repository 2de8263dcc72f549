package pki

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

// TestCompareTable changes one thing at a time.
func TestCompareTable(t *testing.T) {
	one := 1
	for _, test := range []struct {
		change func(*spec.Certificate)
		want   string
	}{
		{func(*spec.Certificate) {}, ""},
		{func(c *spec.Certificate) { c.Duration *= 2; c.Issuer = "other"; c.PrivateKey.Encoding = spec.SEC1 }, ""},
		{func(c *spec.Certificate) { slices.Reverse(c.DNSNames) }, ""},
		{func(c *spec.Certificate) { c.DNSNames[0] = strings.ToUpper(c.DNSNames[0]) }, ""},
		{func(c *spec.Certificate) { c.IPAddresses[0] = netip.MustParseAddr("::ffff:10.0.0.1") }, ""},
		{func(c *spec.Certificate) { c.CommonName = "b" }, "commonName: a → b"},
		{func(c *spec.Certificate) { c.CommonName = "" }, `commonName: a → ""`},
		{func(c *spec.Certificate) { c.DNSNames = []string{"api.example.com", "b.example.com"} }, "dnsNames: + api.example.com - a.example.com"},
		{func(c *spec.Certificate) { c.IPAddresses = nil }, "ipAddresses: - 10.0.0.1"},
		{func(c *spec.Certificate) { c.URIs = []string{"spiffe://x/y"} }, "uris: + spiffe://x/y"},
		{func(c *spec.Certificate) { c.EmailAddresses = []string{"A@EXAMPLE.com"} }, "emailAddresses: + A@example.com"},
		{func(c *spec.Certificate) { c.Subject.Organizations = []string{"o2", "o1", "o3"} }, "subject.organizations: + o3"},
		{func(c *spec.Certificate) { c.Subject = spec.Subject{} }, "subject.organizations: - o1 - o2"},
		{func(c *spec.Certificate) { c.Subject.EmailAddress = "x@y" }, "subject.emailAddress: + x@y"},
		{func(c *spec.Certificate) { c.Usages = []spec.Usage{spec.UsageClientAuth, spec.UsageDigitalSignature} }, "usages: + client auth - server auth"},
		{func(c *spec.Certificate) { c.PrivateKey.Size = 384 }, "privateKey.size: 256 → 384"},
		{func(c *spec.Certificate) { c.PrivateKey = spec.PrivateKey{Algorithm: spec.Ed25519} }, "privateKey.algorithm: ECDSA → Ed25519; privateKey.size: 256 → 0"},
		{func(c *spec.Certificate) { c.CA = &spec.CA{PathLen: &one} }, "isCA: false → true; pathLen: unlimited → 1"},
		{func(c *spec.Certificate) {
			c.CA = &spec.CA{NameConstraints: &spec.NameConstraints{Critical: true, Permitted: spec.Names{DNSDomains: []string{"x"}}}}
		}, "isCA: false → true; nameConstraints.permitted.dnsDomains: + x"},
	} {
		base := func() *spec.Certificate {
			c := leafSpec("a.example.com", "b.example.com")
			c.CommonName = "a"
			c.Subject.Organizations = []string{"o1", "o2"}
			c.IPAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
			c.PrivateKey = spec.PrivateKey{Algorithm: spec.ECDSA, Size: 256}
			return c
		}
		changed := base()
		test.change(changed)
		before := fmt.Sprintf("%+v", changed)
		have, want := Wanted(base()), Wanted(changed)
		var got []string
		for _, d := range Compare(&have, &want) {
			got = append(got, d.String())
		}
		if s := strings.Join(got, "; "); s != test.want {
			t.Errorf("got %q, want %q", s, test.want)
		}
		if after := fmt.Sprintf("%+v", changed); after != before {
			t.Errorf("Wanted changed the spec: %s to %s", before, after)
		}
	}
}

// randomSpec makes specs of a few values, so that two of them are often equal.
func randomSpec(r *rand.Rand) *spec.Certificate {
	pick := func(values ...string) []string {
		var list []string
		for _, v := range values {
			if r.IntN(3) == 0 {
				list = append(list, v)
			}
		}
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	}
	c := caSpec("ca")
	c.CommonName = []string{"", "a", "b"}[r.IntN(3)]
	c.Subject = spec.Subject{
		Countries: pick("DE"), Provinces: pick("p"), Localities: pick("l"), StreetAddresses: pick("s 1"), PostalCodes: pick("12345"),
		Organizations: pick("o1", "Ö 2"), OrganizationalUnits: pick("u"),
		SerialNumber: []string{"", "7"}[r.IntN(2)], EmailAddress: []string{"", "a@b.c"}[r.IntN(2)],
	}
	c.DNSNames = pick("a.example.com", "*.b.example.com")
	c.URIs = pick("spiffe://example.com/a", "urn:uuid:1", "https://example.com/%7Ea")
	c.EmailAddresses = pick("a@example.com", "B@example.com")
	for _, a := range pick("10.0.0.1", "2001:db8::1") {
		c.IPAddresses = append(c.IPAddresses, netip.MustParseAddr(a))
	}
	c.Usages = nil
	for _, u := range spec.Usages {
		if r.IntN(4) == 0 {
			c.Usages = append(c.Usages, u)
		}
	}
	c.PrivateKey = spec.PrivateKey{Algorithm: spec.ECDSA, Size: []int{256, 384}[r.IntN(2)]}
	if r.IntN(3) == 0 {
		c.CA = nil
		return c
	}
	if n := r.IntN(3); n < 2 {
		c.CA.PathLen = &n
	}
	if r.IntN(2) == 0 {
		names := func() spec.Names {
			n := spec.Names{DNSDomains: pick("example.com", ".org"), EmailAddresses: pick("a@b.c", "host.example"), URIDomains: pick(".example.com")}
			for _, p := range pick("10.0.0.0/8", "2001:db8::/32") {
				n.IPRanges = append(n.IPRanges, netip.MustParsePrefix(p))
			}
			return n
		}
		c.CA.NameConstraints = &spec.NameConstraints{Critical: r.IntN(2) == 0, Permitted: names(), Excluded: names()}
	}
	return c
}

// TestIssuedIsWanted: what is issued for a spec is what the spec wants.
func TestIssuedIsWanted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := map[int]*Key{256: testKey(t, spec.ECDSA, 256), 384: testKey(t, spec.ECDSA, 384)}
	root := issue(t, caSpec("root"), nil)
	for range 300 {
		c := randomSpec(r)
		req := testRequest(t, c, keys[c.PrivateKey.Size])
		cert, err := Sign(req, root.cert, root.key.Signer())
		if err != nil {
			t.Fatal(err)
		}
		have, want := IdentityOf(cert), Wanted(c)
		if d := Compare(&have, &want); d != nil || !have.Equal(&want) || !reflect.DeepEqual(have, want) {
			t.Fatalf("issued differs from wanted: %v\n%+v\n%+v", d, have, want)
		}
		if err := CheckAnswer(req, Chain{cert}, root.cert); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEqualAgreesWithCompare on random pairs: half of them differ in little.
func TestEqualAgreesWithCompare(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const pairs = 2000
	equal := 0
	for i := range pairs {
		a := Wanted(randomSpec(r))
		b := a
		if i%2 == 0 {
			mutate(r, &b)
		} else {
			b = Wanted(randomSpec(r))
		}
		differences := Compare(&a, &b)
		if a.Equal(&b) != (len(differences) == 0) || a.Equal(&b) != b.Equal(&a) {
			t.Fatalf("Equal %v, Compare %v:\n%+v\n%+v", a.Equal(&b), differences, a, b)
		}
		if back := Compare(&b, &a); len(back) != len(differences) {
			t.Fatalf("%v there, %v back", differences, back)
		}
		if a.Equal(&b) {
			equal++
		}
		data, err := json.Marshal(differences)
		if err != nil {
			t.Fatal(err)
		}
		var again []Difference
		if err := json.Unmarshal(data, &again); err != nil || !SameDifferences(again, differences) {
			t.Fatalf("%s: %v", data, err)
		}
	}
	if equal < pairs/50 || equal > pairs*9/10 {
		t.Errorf("%d of %d pairs were equal: the test is not worth much", equal, pairs)
	}
}

// mutate changes one field at random, by way of reflection so that none is
// forgotten; sometimes to what it was.
func mutate(r *rand.Rand, id *Identity) {
	v := reflect.ValueOf(id).Elem()
	for v.Kind() == reflect.Struct {
		v = v.Field(r.IntN(v.NumField()))
		if v.Kind() == reflect.Pointer {
			clone := reflect.New(v.Type().Elem())
			if !v.IsNil() {
				clone.Elem().Set(v.Elem())
			}
			v.Set(clone)
			v = clone.Elem()
		}
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", "a", "ECDSA"}[r.IntN(3)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int:
		v.SetInt([]int64{-1, 0, 256}[r.IntN(3)])
	case reflect.Slice:
		if v.Len() > 0 && r.IntN(2) == 0 {
			v.Set(v.Slice(0, v.Len()-1))
		} else if r.IntN(3) > 0 {
			v.Set(reflect.Append(v.Slice3(0, v.Len(), v.Len()), reflect.ValueOf("zz").Convert(v.Type().Elem())))
		}
	}
	// What normalization guarantees: no empty structs.
	if id.Subject != nil {
		id.Subject = normalSubject(*id.Subject)
	}
	if c := id.NameConstraints; c != nil {
		id.NameConstraints = normalConstraints(c.Critical, c.Permitted, c.Excluded)
	}
}

func TestIdentityOfForeignCertificate(t *testing.T) {
	openssl := requireOpenSSL(t)
	dir := t.TempDir()
	write(t, dir, "c.cnf", []byte(`[req]
distinguished_name = dn
x509_extensions = ext
prompt = no
[dn]
CN = a
0.OU = b
1.OU = a
DC = example
[ext]
keyUsage = keyEncipherment, digitalSignature
extendedKeyUsage = clientAuth, serverAuth, 1.2.3.4, msCodeCom
subjectAltName = DNS:Z.example.com, DNS:a.example.com, DNS:a.example.com, otherName:1.2.3;UTF8:x
`))
	openssl(dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k", "-out", "c", "-config", "c.cnf")
	certs, err := ParseCertificates([]byte(read(t, dir, "c")))
	if err != nil {
		t.Fatal(err)
	}
	got := IdentityOf(certs[0])
	want := Identity{
		CommonName: "a",
		Subject:    &Subject{OrganizationalUnits: []string{"a", "b"}, Other: []string{"0.9.2342.19200300.100.1.25=example"}},
		DNSNames:   []string{"a.example.com", "z.example.com"},
		Usages: []spec.Usage{spec.UsageDigitalSignature, spec.UsageKeyEncipherment, spec.UsageServerAuth, spec.UsageClientAuth,
			"1.2.3.4", "1.3.6.1.4.1.311.2.1.22"},
		Algorithm: spec.ECDSA, Size: 256, PathLen: -1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestUsageTable(t *testing.T) {
	for i, u := range spec.Usages {
		if usageTable[i].usage != u || (usageTable[i].keyUsage == 0) != (usageTable[i].oid != nil) {
			t.Errorf("usageTable[%d] is %+v, want %s", i, usageTable[i], u)
		}
	}
	if len(usageTable) != len(spec.Usages) {
		t.Errorf("%d usages, want %d", len(usageTable), len(spec.Usages))
	}
}
