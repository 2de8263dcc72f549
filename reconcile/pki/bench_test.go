package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"github.com/certsync/certsync/spec"
)

// The pairs plain and ours are to be compared within one run: how long anything
// takes on a shared machine says little.

// BenchmarkObserve is what a plan without changes does for each certificate.
func BenchmarkObserve(b *testing.B) {
	root := issue(b, caSpec("root"), nil)
	c := leafSpec("a.example.com", "b.example.com")
	leaf := issue(b, c, root)
	certData := EncodeCertificates(leaf.cert)
	keyData, err := leaf.key.EncodePEM("", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			block, _ := pem.Decode(certData)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				b.Fatal(err)
			}
			block, _ = pem.Decode(keyData)
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil || !key.(*ecdsa.PrivateKey).PublicKey.Equal(cert.PublicKey) {
				b.Fatal("no match")
			}
		}
	})
	ours := func(signature bool) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				list, err := ParseCertificates(certData)
				if err != nil {
					b.Fatal(err)
				}
				key, _, err := ParseKey(keyData, nil)
				if err != nil || key.Fingerprint() != KeyFingerprint(list[0]) {
					b.Fatal("no match")
				}
				have, want := IdentityOf(list[0]), Wanted(c)
				if !have.Equal(&want) {
					b.Fatal("differ")
				}
				if signature && SignedBy(list[0], root.cert) != nil {
					b.Fatal("not signed")
				}
			}
		}
	}
	b.Run("ours", ours(true))
	b.Run("ours, without signature", ours(false))
}

// BenchmarkIssue is what a new leaf costs: key, request, certificate, check.
func BenchmarkIssue(b *testing.B) {
	root := issue(b, caSpec("root"), nil)
	c := leafSpec("a.example.com")
	c.Duration = time.Hour
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			_, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
				SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: c.DNSNames,
				NotBefore: testNow, NotAfter: testNow.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
			}, root.cert, key.Public(), root.key.Signer())
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := testRequest(b, c, testKey(b, spec.ECDSA, 256))
			cert, err := Sign(r, root.cert, root.key.Signer())
			if err != nil {
				b.Fatal(err)
			}
			if err := CheckAnswer(r, Chain{cert}, root.cert); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSignedBy(b *testing.B) {
	root := issue(b, caSpec("root"), nil)
	leaf := issue(b, leafSpec("a.example.com"), root)
	b.ReportAllocs()
	for b.Loop() {
		if err := SignedBy(leaf.cert, root.cert); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIdentityOf(b *testing.B) {
	leaf := issue(b, leafSpec("a.example.com", "b.example.com"), nil)
	b.ReportAllocs()
	for b.Loop() {
		id := IdentityOf(leaf.cert)
		_ = id
	}
}

func BenchmarkEqual(b *testing.B) {
	c := leafSpec("a.example.com", "b.example.com")
	x, y := Wanted(c), Wanted(c)
	b.ReportAllocs()
	for b.Loop() {
		if !x.Equal(&y) {
			b.Fatal("differ")
		}
	}
}
