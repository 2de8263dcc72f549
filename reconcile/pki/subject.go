package pki

import (
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"unicode"
)

// attributeNames are those of RFC 4514 and, where it has none, of openssl.
var attributeNames = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.4":                    "SN",
	"2.5.4.5":                    "serialNumber",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "ST",
	"2.5.4.9":                    "street",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.12":                   "title",
	"2.5.4.15":                   "businessCategory",
	"2.5.4.17":                   "postalCode",
	"2.5.4.42":                   "GN",
	"2.5.4.97":                   "organizationIdentifier",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "emailAddress",
}

// SubjectString returns a distinguished name for people, in the order of its
// encoding and with the escapes of RFC 4514: "C=CN, O=Example, CN=web".
func SubjectString(name pkix.Name) string { return subjectString(name.Names) }

func subjectString(names []pkix.AttributeTypeAndValue) string {
	var b strings.Builder
	for _, n := range names {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		oid := n.Type.String()
		if short := attributeNames[oid]; short != "" {
			oid = short
		}
		b.WriteString(oid + "=" + escapeValue(fmt.Sprint(n.Value)))
	}
	return b.String()
}

// escapeValue follows RFC 4514, section 2.4.
func escapeValue(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case strings.ContainsRune(`,+"\<>;=`, r), r == '#' && i == 0,
			r == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteString(visible(string(r)))
		}
	}
	return b.String()
}

// visible replaces what does not print, and what a terminal might obey, by its
// bytes in hexadecimal: certificates come from anywhere.
func visible(s string) string {
	if !strings.ContainsFunc(s, invisible) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !invisible(r) {
			b.WriteRune(r)
			continue
		}
		for _, c := range []byte(string(r)) {
			fmt.Fprintf(&b, `\%02x`, c)
		}
	}
	return b.String()
}

func invisible(r rune) bool { return !unicode.IsPrint(r) }

// serialString returns a serial number in hexadecimal, as openssl writes it.
func serialString(n *big.Int) string {
	if n == nil {
		return ""
	}
	s := n.Text(16)
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}
