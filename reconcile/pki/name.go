package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
)

// canonicalName is a distinguished name in a form in which names that match by
// RFC 5280, section 7.1, are equal: one string for each RDN.
type canonicalName []string

type rawAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type rawRDN []rawAttribute

// parseName returns nil, false for what is no distinguished name.
func parseName(raw []byte) (canonicalName, bool) {
	var sequence []asn1.RawValue
	if unmarshal(raw, &sequence) != nil {
		return nil, false
	}
	name := make(canonicalName, 0, len(sequence))
	for _, set := range sequence {
		rdn, ok := parseRDN(set.FullBytes, "set")
		if !ok {
			return nil, false
		}
		name = append(name, rdn)
	}
	return name, true
}

func parseRDN(der []byte, params string) (string, bool) {
	var rdn rawRDN
	if rest, err := asn1.UnmarshalWithParams(der, &rdn, params); err != nil || len(rest) > 0 {
		return "", false
	}
	parts := make([]string, len(rdn))
	for i, a := range rdn {
		parts[i] = a.Type.String() + "=" + canonicalValue(a.Value)
	}
	slices.Sort(parts)
	return strings.Join(parts, "\x00"), true
}

// canonicalValue ignores case, and white space but where it separates words. It
// takes all string types of single bytes or UTF-8 for one; others must be equal.
func canonicalValue(v asn1.RawValue) string {
	switch v.Tag {
	case asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String:
		if v.Class == asn1.ClassUniversal {
			return strings.Join(strings.Fields(strings.ToLower(string(v.Bytes))), " ")
		}
	}
	return "#" + hex.EncodeToString(v.FullBytes)
}

// within tells whether n is the subtree's base or below it.
func (n canonicalName) within(base canonicalName) bool {
	return len(n) >= len(base) && slices.Equal(n[:len(base)], base)
}

// sameName compares two encoded names.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, ok := parseName(a)
	if !ok {
		return false
	}
	y, ok := parseName(b)
	return ok && slices.Equal(x, y)
}

// selfIssued tells whether subject and issuer are the same (RFC 5280, section
// 3.2): the certificate of a CA that got a new key, or that is a root.
func selfIssued(cert *x509.Certificate) bool { return sameName(cert.RawSubject, cert.RawIssuer) }

// extensionOf returns nil if the certificate has no such extension.
func extensionOf(cert *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for i := range cert.Extensions {
		if cert.Extensions[i].Id.Equal(oid) {
			return cert.Extensions[i].Value
		}
	}
	return nil
}

// title is how reasons name a certificate.
func title(cert *x509.Certificate) string {
	if s := subjectString(cert.Subject.Names); s != "" {
		return `"` + s + `"`
	}
	return "with serial number " + serialString(cert.SerialNumber)
}
