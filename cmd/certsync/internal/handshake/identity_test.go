package handshake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestObjections(t *testing.T) {
	w := newWorld(t)
	middle := w.clients["full"].chain[0]
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	noSignature := issue(t, w.root, newRSA(t), "no signature", func(c *x509.Certificate) { client(c); c.KeyUsage = x509.KeyUsageKeyEncipherment })
	anything := issue(t, w.root, newECDSA(t), "anything", nil)
	larger := issue(t, w.root, p384, "larger", client)
	later := issue(t, w.root, newECDSA(t), "later", func(c *x509.Certificate) { client(c); c.NotBefore = time.Now().Add(30 * time.Minute) })

	root := &CertificateRequest{CAs: []string{"CN=root"}, rawCAs: [][]byte{w.root.cert.RawSubject}}
	untold := &CertificateRequest{}
	schemes := func(types []byte, list ...uint16) *CertificateRequest {
		r := &CertificateRequest{schemes: list, types: types}
		for _, s := range list {
			r.SignatureSchemes = append(r.SignatureSchemes, schemeName(s))
		}
		return r
	}
	tests := []struct {
		name    string
		party   *party
		missing []*x509.Certificate
		request *CertificateRequest
		want    string
	}{
		{"right", w.clients["ecdsa"], nil, root, ""},
		{"any usage", anything, nil, root, ""},
		{"nothing is known", w.clients["stranger"], nil, nil, ""},
		{"no CAs are told", w.clients["stranger"], nil, untold, ""},
		{"with its intermediate", w.clients["full"], nil, root, ""},
		{"without", w.clients["short"], []*x509.Certificate{middle}, root, `the chain is incomplete: it is sent without "CN=middle"`},
		{"without, and no CAs are told", w.clients["short"], []*x509.Certificate{middle}, untold, `the chain may be incomplete: it is sent without "CN=middle"`},
		{"another CA", w.clients["stranger"], nil, root, `its issuer is "CN=strangers", which is not among the CAs that the server asks for: "CN=root"`},
		{"another key", w.clients["wrong key"], nil, root, "the private key is not that of the certificate"},
		{"usage", w.clients["usage"], nil, root, "it lacks the usage client auth"},
		{"key usage", noSignature, nil, root, "it lacks the usage digital signature"},
		{"not yet", later, nil, root, "the certificate is not valid before " + later.cert.NotBefore.UTC().Format("2006-01-02 15:04:05 MST")},
		{"the scheme of the curve", w.clients["ecdsa"], nil, schemes(nil, 0x0403), ""},
		{"of another curve", larger, nil, schemes(nil, 0x0403), "its ECDSA key makes no signature that the server asks for: ecdsa_secp256r1_sha256"},
		{"in TLS 1.2 any curve", larger, nil, schemes([]byte{64}, 0x0403), ""},
		{"no Ed25519", w.clients["ed25519"], nil, schemes(nil, 0x0403, 0x0804), "its Ed25519 key makes no signature that the server asks for: ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256"},
		{"RSA", w.clients["rsa"], nil, schemes(nil, 0x0403, 0x0804), ""},
		{"no RSA", w.clients["rsa"], nil, schemes(nil, 0x0807), "its RSA key makes no signature that the server asks for: ed25519"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id := test.party.identity(t)
			id.Missing = test.missing
			if diff := cmp.Diff(test.want, texts(id.Objections(test.request, time.Now()))); diff != "" {
				t.Errorf("-want +have:\n%s", diff)
			}
		})
	}
}
