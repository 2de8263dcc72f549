package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/certsync/certsync/spec"
)

// A CA made by another tool is renewed under the very bytes of its name and with
// its key identifier, so that what it signed before chains to both certificates.
func TestSuccessorKeepsNameAndIdentifier(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	key, err := GenerateKey(spec.ECDSA, 256)
	if err != nil {
		t.Fatal(err)
	}
	subject := der(derSequence, der(derSet, der(derSequence,
		derOID(subjectAttributes[attrCommonName].oid), der(asn1.TagUTF8String, []byte("old CA")))))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: subject, SubjectKeyId: []byte{1, 2, 3},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.Signer())
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	c := &spec.Certificate{ID: spec.ID{Kind: spec.KindIssuer, Name: "ca"}, CommonName: "old CA",
		Usages: []spec.Usage{spec.UsageCertSign}, Duration: time.Hour * 1000, CA: &spec.CA{}}
	issue := func() *x509.Certificate {
		t.Helper()
		r, err := NewSuccessor(c, key, old, now)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := SelfSign(r, key)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	renewed := issue()
	if !bytes.Equal(renewed.RawSubject, old.RawSubject) || !bytes.Equal(renewed.SubjectKeyId, old.SubjectKeyId) {
		t.Errorf("subject %x, identifier %x", renewed.RawSubject, renewed.SubjectKeyId)
	}
	c.CommonName = "new CA"
	if renamed := issue(); renamed.Subject.CommonName != "new CA" {
		t.Errorf("renamed to %q", renamed.Subject.CommonName)
	}
}
