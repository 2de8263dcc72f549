package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

func TestParseCertificates(t *testing.T) {
	root := issue(t, caSpec("root"), nil)
	leaf := issue(t, leafSpec("a.example.com"), root)
	both := EncodeCertificates(leaf.cert, root.cert)
	key, err := leaf.key.EncodePEM("", nil)
	if err != nil {
		t.Fatal(err)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, []byte("\nsome text\n")) }
	damaged := bytes.Replace(both, []byte("-----END"), []byte("----END"), 1)
	garbage := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

	for _, test := range []struct {
		name string
		data []byte
		want []*x509.Certificate
		err  string
	}{
		{"two", both, []*x509.Certificate{leaf.cert, root.cert}, ""},
		{"text and key", join(key, both), []*x509.Certificate{leaf.cert, root.cert}, ""},
		{"parameters", join([]byte("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----"), both), []*x509.Certificate{leaf.cert, root.cert}, ""},
		{"CRLF", bytes.ReplaceAll(both, []byte("\n"), []byte("\r\n")), []*x509.Certificate{leaf.cert, root.cert}, ""},
		{"empty", nil, nil, "no certificate found"},
		{"key only", key, nil, "no certificate found"},
		{"cut off", both[:len(both)-40], nil, "incomplete PEM block"},
		{"cut off at once", both[:60], nil, "incomplete PEM block"},
		{"damaged", damaged, nil, "malformed certificate"},
		{"garbage", garbage, nil, "malformed certificate"},
		{"garbage at the end", join(both, garbage), nil, "malformed certificate"},
	} {
		got, err := ParseCertificates(test.data)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: got %v, want %s", test.name, err, test.err)
			}
			if (test.err == "no certificate found") != errors.Is(err, ErrNoCertificate) {
				t.Errorf("%s: %v is ErrNoCertificate: wrong", test.name, err)
			}
			continue
		}
		if err != nil || len(got) != len(test.want) || !got[0].Equal(test.want[0]) || !got[1].Equal(test.want[1]) {
			t.Errorf("%s: %v, %d certificates", test.name, err, len(got))
		}
	}

	for _, data := range [][]byte{leaf.cert.Raw, EncodeCertificates(leaf.cert)} {
		if got, err := ParseAnyCertificates(data); err != nil || len(got) != 1 || !got[0].Equal(leaf.cert) {
			t.Error(got, err)
		}
	}
}

func TestEncode(t *testing.T) {
	root := issue(t, caSpec("root"), nil)
	middle := issue(t, caSpec("middle"), root)
	leaf := issue(t, leafSpec("a.example.com"), middle)
	m := Material{Key: leaf.key, Chain: Chain{leaf.cert, middle.cert}, Anchor: root.cert}
	key, _ := leaf.key.EncodePEM("", nil)
	sec1, _ := leaf.key.EncodePEM(spec.SEC1, nil)

	for _, test := range []struct {
		form spec.Form
		m    Material
		enc  spec.Encoding
		want []byte
		err  string
	}{
		{spec.FormCertificate, m, "", EncodeCertificates(leaf.cert), ""},
		{spec.FormChain, m, "", EncodeCertificates(middle.cert), ""},
		{spec.FormChain, Material{Chain: Chain{leaf.cert}}, "", nil, ""},
		{spec.FormFullChain, m, "", EncodeCertificates(leaf.cert, middle.cert), ""},
		{spec.FormPrivateKey, m, spec.SEC1, sec1, ""},
		{spec.FormCA, m, "", EncodeCertificates(root.cert), ""},
		{spec.FormCombined, m, "", append(bytes.Clone(key), EncodeCertificates(leaf.cert, middle.cert)...), ""},
		{spec.FormCA, Material{Chain: m.Chain}, "", nil, "the trust anchor is not known"},
		{spec.FormPrivateKey, Material{Chain: m.Chain}, "", nil, "no private key"},
		{spec.FormCombined, Material{Chain: m.Chain}, "", nil, "no private key"},
		{spec.FormCertificate, Material{}, "", nil, "no certificate"},
		{"p12", m, "", nil, `form "p12" is not supported`},
	} {
		got, err := Encode(test.form, test.m, test.enc, nil)
		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) || test.err == "" && err != nil {
			t.Errorf("%s: got %v, want %q", test.form, err, test.err)
		}
		if !bytes.Equal(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.form, got, test.want)
		}
	}
	combined, _ := Encode(spec.FormCombined, m, "", []byte("secret"))
	if k, info, err := ParseKey(combined, password("secret")); err != nil || !info.Encrypted || !k.Matches(leaf.cert) {
		t.Error("combined, encrypted:", err)
	}
	if certs, err := ParseCertificates(combined); err != nil || len(certs) != 2 {
		t.Error("combined, encrypted:", err)
	}
}
