package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/netip"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

func TestInspect(t *testing.T) {
	two := 2
	c := caSpec("k8sca")
	c.Subject = spec.Subject{Countries: []string{"CN"}, Provinces: []string{"Guangdong"}, EmailAddress: "test@k8s.ca"}
	c.CA = &spec.CA{PathLen: &two, NameConstraints: &spec.NameConstraints{Critical: true, Permitted: spec.Names{DNSDomains: []string{"example.com"}}}}
	root := issue(t, c, nil)
	l := leafSpec("a.example.com")
	l.IPAddresses = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	l.URIs, l.EmailAddresses = []string{"spiffe://x/y"}, []string{"a@example.com"}
	leaf := issue(t, l, root)
	key, _ := leaf.key.EncodePEM(spec.SEC1, nil)
	encrypted, _ := leaf.key.EncodePEM("", []byte("secret"))
	csr := testRequest(t, c, root.key).CSR
	public, _ := x509.MarshalPKIXPublicKey(leaf.key.Public())
	data := bytes.Join([][]byte{
		EncodeCertificates(leaf.cert, root.cert), key, encrypted,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		[]byte("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"),
	}, []byte("some text\n"))

	items, err := Inspect(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, i := range items {
		types = append(types, i.Type)
	}
	if got := strings.Join(types, ", "); got != "certificate, certificate, private key, private key, certificate request, public key, other" {
		t.Fatal(got)
	}
	print := leaf.key.Fingerprint()
	if got := items[0].Certificate; got.Subject != "CN=a.example.com" || got.Issuer != "C=CN, ST=Guangdong, CN=k8sca, emailAddress=test@k8s.ca" ||
		got.Serial != serialString(leaf.cert.SerialNumber) || got.PublicKey != (PublicKeyInfo{"ECDSA", 256, print}) ||
		got.AuthorityKeyID != items[1].Certificate.SubjectKeyID || got.IsCA || got.IPAddresses[0] != "2001:db8::1" {
		t.Errorf("leaf: %+v", got)
	}
	if got := items[1].Certificate; !got.IsCA || *got.PathLen != 2 || got.NameConstraints.Permitted.DNSDomains[0] != "example.com" || got.Extensions != nil {
		t.Errorf("root: %+v", got)
	}
	if got := items[2].PrivateKey; got.Encoding != spec.SEC1 || got.Encrypted || got.PublicKey.Fingerprint != print {
		t.Errorf("key: %+v", got)
	}
	if got := items[3].PrivateKey; !got.Encrypted || got.PublicKey != nil {
		t.Errorf("encrypted key: %+v", got)
	}
	if got := items[4].Request; !got.SignatureValid || !got.IsCA || *got.PathLen != 2 || len(got.Usages) != 2 || got.Usages[0] != spec.UsageCertSign {
		t.Errorf("request: %+v", got)
	}
	out, err := json.MarshalIndent(items, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	refuseSecrets(t, leaf.key, string(out))
	for _, want := range []string{`"dnsNames": [`, `"notAfter": "2026-`, `"fingerprint": "` + print.String(), `"usages": [`, `"pemType": "DH PARAMETERS"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}

	if items, err := Inspect(encrypted, password("secret")); err != nil || items[0].PrivateKey.PublicKey.Fingerprint != print {
		t.Error("encrypted key with password:", err)
	}
	_, err = Inspect(encrypted, password("wrong"))
	wantError(t, "wrong password", err, "wrong password")
	_, err = Inspect(data[:len(data)-20], nil)
	wantError(t, "cut off", err, "incomplete PEM block")
	_, err = Inspect([]byte("hello"), nil)
	wantError(t, "text", err, "no certificate, request, key or CRL found")

	// Each thing is recognized in DER, too.
	for rest, i := data, 0; i < 6; i++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		got, err := Inspect(block.Bytes, nil)
		if err != nil || got[0].Type != types[i] {
			t.Errorf("DER of %s: %+v, %v", types[i], got, err)
		}
	}
}

func TestInspectForeign(t *testing.T) {
	openssl, dir := requireOpenSSL(t), t.TempDir()
	write(t, dir, "c.cnf", []byte(`[req]
distinguished_name = dn
x509_extensions = ext
prompt = no
[dn]
CN = a+b
[other]
CN = x
[ca]
default_ca = d
[d]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 30
[ext]
subjectAltName = otherName:1.2.3;UTF8:x, RID:1.2.4, dirName:other
crlDistributionPoints = URI:http://x/crl
authorityInfoAccess = OCSP;URI:http://x/ocsp
certificatePolicies = 1.2.3.4
nsComment = hello
1.2.3.5 = critical, ASN1:NULL
`))
	openssl(dir, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-config", "c.cnf", "-days", "2")
	items, err := Inspect([]byte(read(t, dir, "c")), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := items[0].Certificate
	if got.Subject != `CN=a\+b` || strings.Join(got.OtherNames, "|") != "otherName 1.2.3|registeredID 1.2.4|directoryName CN=x" ||
		got.CRLs[0] != "http://x/crl" || got.OCSPServers[0] != "http://x/ocsp" || got.Policies[0] != "1.2.3.4" || got.PublicKey.Algorithm != "RSA" ||
		len(got.Extensions) != 2 || got.Extensions[1] != (ExtensionInfo{"1.2.3.5", true}) {
		t.Errorf("%+v", got)
	}

	write(t, dir, "index", []byte("R\t300101000000Z\t260101000000Z,keyCompromise\t0A\tunknown\t/CN=x\n"))
	write(t, dir, "number", []byte("1F\n"))
	openssl(dir, "ca", "-config", "c.cnf", "-gencrl", "-cert", "c", "-keyfile", "k", "-out", "crl")
	items, err = Inspect([]byte(read(t, dir, "crl")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := items[0].CRL; got.Number != "1f" || got.Issuer != `CN=a\+b` || len(got.Revoked) != 1 || got.Revoked[0].Serial != "0a" || got.Revoked[0].Reason != "key compromise" {
		t.Errorf("%+v", got)
	}
}

func TestSubjectStringEscapes(t *testing.T) {
	for value, want := range map[string]string{
		"a, b": `CN=a\, b`, " a ": `CN=\ a\ `, "#1": `CN=\#1`, "a\x1b[31m\n": `CN=a\1b[31m\0a`, "ü": "CN=ü",
	} {
		c := leafSpec(value)
		c.DNSNames = nil
		if got := SubjectString(issue(t, c, nil).cert.Subject); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}
