package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNoCRL is wrapped by the errors for input that holds no CRL.
var ErrNoCRL = errors.New("no CRL found")

const pemCRL = "X509 CRL"

// ParseCRLs reads certificate revocation lists: one in DER, or those in PEM data.
func ParseCRLs(data []byte) ([]*x509.RevocationList, error) {
	if isDER(data) {
		crl, err := parseCRL(data)
		if err != nil {
			return nil, err
		}
		return []*x509.RevocationList{crl}, nil
	}
	var crls []*x509.RevocationList
	blocks := 0
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCRL {
			continue
		}
		blocks++
		crl, err := parseCRL(block.Bytes)
		if err != nil {
			return nil, err
		}
		crls = append(crls, crl)
	}
	if bytes.Count(data, []byte("-----BEGIN "+pemCRL+"-----")) > blocks {
		return nil, errors.New("malformed CRL: incomplete PEM block")
	}
	if len(crls) == 0 {
		return nil, ErrNoCRL
	}
	return crls, nil
}

func parseCRL(der []byte) (*x509.RevocationList, error) {
	crl, err := x509.ParseRevocationList(der)
	if err == nil && len(crl.Raw) != len(der) {
		err = errors.New("trailing data") // which crypto/x509 lets pass, other than in certificates
	}
	if err != nil {
		return nil, fmt.Errorf("malformed CRL: %w", err)
	}
	return crl, nil
}

// ParseAnyCertificates is ParseCertificates for data that is PEM, or the DER of
// one certificate.
func ParseAnyCertificates(data []byte) ([]*x509.Certificate, error) {
	if !isDER(data) {
		return ParseCertificates(data)
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("malformed certificate: %w", err)
	}
	return []*x509.Certificate{cert}, nil
}

// isDER tells DER from text, which might start with the digit 0, the tag of a
// SEQUENCE, too: but not go on with a length.
func isDER(data []byte) bool {
	return len(data) > 2 && data[0] == derSequence && (data[1] >= 0x80 || int(data[1]) == len(data)-2)
}

// checkRevocation tells whether a CRL covers cert, which issuer signed, and none
// revoked it at the time: nil, or why not (RFC 5280, section 6.3).
func checkRevocation(cert, issuer *x509.Certificate, crls []*x509.RevocationList, at time.Time) error {
	// Every CRL that covers cert covers it for all reasons. So the newest one
	// alone counts: an older one may still hold what was released since.
	var newest *x509.RevocationList
	var unusable []string
	for _, crl := range crls {
		if !sameName(crl.RawIssuer, cert.RawIssuer) {
			continue
		}
		if err := usable(crl, cert, issuer, at); err != nil {
			unusable = append(unusable, fmt.Sprintf("the CRL of %q, issued on %s, %v", SubjectString(crl.Issuer), instant(crl.ThisUpdate), err))
			continue
		}
		if newest == nil || crl.ThisUpdate.After(newest.ThisUpdate) ||
			crl.ThisUpdate.Equal(newest.ThisUpdate) && newerNumber(crl, newest) {
			newest = crl
		}
	}
	switch {
	case newest == nil && len(unusable) > 0:
		return fmt.Errorf("no CRL for certificate %s: %s", title(cert), strings.Join(unusable, "; "))
	case newest == nil:
		return fmt.Errorf("no CRL for certificate %s, issued by %q", title(cert), SubjectString(cert.Issuer))
	}
	for i := range newest.RevokedCertificateEntries {
		e := &newest.RevokedCertificateEntries[i]
		if e.SerialNumber.Cmp(cert.SerialNumber) == 0 && !e.RevocationTime.After(at) && e.ReasonCode != removeFromCRL {
			return fmt.Errorf("certificate %s was revoked on %s (%s)", title(cert), instant(e.RevocationTime), reasonString(e.ReasonCode))
		}
	}
	return nil
}

func newerNumber(a, b *x509.RevocationList) bool {
	return a.Number != nil && b.Number != nil && a.Number.Cmp(b.Number) > 0
}

// usable tells whether a CRL of the right name may be asked about cert: nil, or
// why not.
func usable(crl *x509.RevocationList, cert, issuer *x509.Certificate, at time.Time) error {
	switch {
	case crl.ThisUpdate.After(at):
		return errors.New("is not valid yet")
	case crl.NextUpdate.IsZero():
		return errors.New("does not tell when the next one is due") // section 5.1.2.5: it must
	case !at.Before(crl.NextUpdate):
		return fmt.Errorf("expired on %s", instant(crl.NextUpdate))
	case !maySign(issuer, x509.KeyUsageCRLSign): // section 6.3.3 (f)
		return fmt.Errorf(`is of no use: CA %s lacks the usage "crl sign"`, title(issuer))
	}
	if err := usableExtensions(crl, cert); err != nil {
		return err
	}
	if err := issuer.CheckSignature(crl.SignatureAlgorithm, crl.RawTBSRevocationList, crl.Signature); err != nil {
		return fmt.Errorf("is not signed by the key of %s: %w", title(issuer), err)
	}
	return nil
}

// RFC 5280, sections 5.2 and 5.3.
var (
	oidCRLNumber          = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReasonCode         = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate     = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDeltaCRL           = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint  = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer  = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityKeyID     = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// usableExtensions refuses what the RFC wants processed and we do not, rather
// than to take an answer that may be wrong.
func usableExtensions(crl *x509.RevocationList, cert *x509.Certificate) error {
	if err := distinct(crl.Extensions); err != nil {
		return err
	}
	for _, e := range crl.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			return errors.New("is a delta CRL, which is not supported")
		case e.Id.Equal(oidDistributionPoint):
			if err := inScope(e.Value, cert); err != nil {
				return err
			}
		case e.Critical && !e.Id.Equal(oidCRLNumber) && !e.Id.Equal(oidAuthorityKeyID):
			return fmt.Errorf("has a critical extension that is not known: %v", e.Id)
		}
	}
	for i := range crl.RevokedCertificateEntries {
		entry := &crl.RevokedCertificateEntries[i]
		if err := distinct(entry.Extensions); err != nil {
			return err
		}
		for _, e := range entry.Extensions {
			switch {
			case e.Id.Equal(oidCertificateIssuer):
				return errors.New("is an indirect CRL, which is not supported")
			case e.Critical && !e.Id.Equal(oidReasonCode) && !e.Id.Equal(oidInvalidityDate):
				return fmt.Errorf("has an entry with a critical extension that is not known: %v", e.Id)
			}
		}
	}
	return nil
}

// distinct refuses an extension that is there twice, as section 4.2 does for
// certificates.
func distinct(extensions []pkix.Extension) error {
	for i, e := range extensions {
		for _, other := range extensions[:i] {
			if other.Id.Equal(e.Id) {
				return fmt.Errorf("has the extension %v twice", e.Id)
			}
		}
	}
	return nil
}

const removeFromCRL = 8

// reasonString names a CRLReason (RFC 5280, section 5.3.1).
func reasonString(code int) string {
	switch code {
	case 0:
		return "unspecified reason"
	case 1:
		return "key compromise"
	case 2:
		return "CA compromise"
	case 3:
		return "affiliation changed"
	case 4:
		return "superseded"
	case 5:
		return "cessation of operation"
	case 6:
		return "certificate hold"
	case removeFromCRL:
		return "removed from the CRL"
	case 9:
		return "privilege withdrawn"
	case 10:
		return "AA compromise"
	}
	return fmt.Sprintf("reason %d", code)
}
