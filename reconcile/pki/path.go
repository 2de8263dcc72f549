package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/certsync/certsync/spec"
)

// verifyLeaf checks what does not depend on the path.
func verifyLeaf(cert *x509.Certificate, o *VerifyOptions) error {
	if err := verifyOne(cert, o.At); err != nil {
		return err
	}
	if err := verifyPurpose(cert, o.Purpose, true); err != nil {
		return err
	}
	if o.Name != "" {
		return VerifyName(cert, o.Name)
	}
	return nil
}

// verifyPath checks a path, leaf first and anchor last, whose names chain and
// whose signatures are good.
func verifyPath(path []*x509.Certificate, o *VerifyOptions) error {
	anchor := len(path) - 1
	intermediates := 0 // that count against pathLen
	for i, cert := range path {
		if err := verifyOne(cert, o.At); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		if err := verifyCA(cert, i == anchor); err != nil {
			return err
		}
		if limit := pathLen(cert); limit >= 0 && intermediates > limit {
			return fmt.Errorf("pathLen of CA %s is %d, but the chain has %d below it", title(cert), limit, intermediates)
		}
		if !selfIssued(cert) {
			intermediates++
		}
		if i < anchor {
			if err := verifyPurpose(cert, o.Purpose, false); err != nil {
				return err
			}
		}
		if err := verifyConstraints(cert, path[:i]); err != nil {
			return err
		}
	}
	if err := verifyPolicies(path, o.At); err != nil {
		return err
	}
	if len(o.CRLs) == 0 {
		return nil
	}
	// From the top: what a revoked CA says of those below it counts for nothing.
	for i := anchor - 1; i >= 0; i-- {
		if err := checkRevocation(path[i], path[i+1], o.CRLs, o.At); err != nil {
			return err
		}
	}
	return nil
}

// verifyOne checks what every certificate of a path must fulfil, the anchor
// included: RFC 5280 would let an expired anchor pass, users would not.
func verifyOne(cert *x509.Certificate, at time.Time) error {
	switch {
	case at.Before(cert.NotBefore):
		return fmt.Errorf("certificate %s is not valid before %s", title(cert), instant(cert.NotBefore))
	case at.After(cert.NotAfter):
		return fmt.Errorf("certificate %s expired on %s", title(cert), instant(cert.NotAfter))
	}
	// Section 4.2: a critical extension that is not understood.
	for _, oid := range cert.UnhandledCriticalExtensions {
		if !oid.Equal(oidNameConstraints) { // see parseSubtrees
			return fmt.Errorf("certificate %s has a critical extension that is not known: %v", title(cert), oid)
		}
	}
	return nil
}

// verifyCA tells whether a certificate may sign others.
func verifyCA(cert *x509.Certificate, anchor bool) error {
	// Section 6.1.4 (k): up to version 2 nothing in a certificate tells a CA; that
	// it was given as an anchor does.
	if !(anchor && cert.Version < 3) && (!cert.BasicConstraintsValid || !cert.IsCA) {
		return fmt.Errorf("certificate %s signed another one, but is not that of a CA", title(cert))
	}
	if !maySign(cert, x509.KeyUsageCertSign) { // 6.1.4 (n)
		return fmt.Errorf(`CA %s lacks the usage "cert sign"`, title(cert))
	}
	return nil
}

// verifyPurpose checks the extended key usages, and of a leaf the key usages
// that TLS needs. An intermediate's extended ones limit those below it: not by
// the RFC, but by all who verify TLS.
func verifyPurpose(cert *x509.Certificate, purpose string, leaf bool) error {
	wanted, usage := x509.ExtKeyUsageServerAuth, spec.UsageServerAuth
	keyUsage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	switch purpose {
	case "", PurposeAny:
		return nil
	case PurposeServer:
		keyUsage |= x509.KeyUsageKeyEncipherment
	case PurposeClient:
		wanted, usage = x509.ExtKeyUsageClientAuth, spec.UsageClientAuth
	}
	stated := len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0
	if stated && !slices.Contains(cert.ExtKeyUsage, wanted) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return fmt.Errorf("certificate %s is not for a %s: it lacks the usage %q", title(cert), purpose, usage)
	}
	if leaf && !maySign(cert, keyUsage) {
		return fmt.Errorf("certificate %s is not for a %s: its key usages do not allow TLS", title(cert), purpose)
	}
	return nil
}

// VerifyName tells whether a certificate is for a DNS name (as A-labels) or an IP
// address: by its subject alternative names alone (RFC 9525, section 6.3).
func VerifyName(cert *x509.Certificate, name string) error {
	// crypto/x509 would let the wildcard "*" alone stand for any name of one label.
	cleaned := *cert
	cleaned.DNSNames = slices.DeleteFunc(slices.Clone(cert.DNSNames), func(s string) bool { return s == "*" })
	if cleaned.VerifyHostname(name) == nil {
		return nil
	}
	names := mapped(cert.DNSNames, visible)
	if net.ParseIP(strings.Trim(name, "[]")) != nil {
		names = mapped(cert.IPAddresses, ipString)
	}
	if len(names) == 0 {
		return fmt.Errorf("certificate %s is not for %q: it has no subject alternative name of that kind", title(cert), name)
	}
	if len(names) > 10 {
		return fmt.Errorf("certificate %s is not for %q, nor is any of its %d subject alternative names", title(cert), name, len(names))
	}
	return fmt.Errorf("certificate %s is not for %q, but for %s", title(cert), name, strings.Join(names, ", "))
}

// verifyConstraints checks the names of all that ca's constraints apply to:
// self-issued certificates are exempt unless they are the leaf (6.1.3 (b)).
func verifyConstraints(ca *x509.Certificate, below []*x509.Certificate) error {
	raw := extensionOf(ca, oidNameConstraints)
	if raw == nil {
		return nil
	}
	permitted, excluded, err := parseSubtrees(raw)
	if err != nil {
		return fmt.Errorf("CA %s: %w", title(ca), err)
	}
	for i, cert := range below {
		if i > 0 && selfIssued(cert) {
			continue
		}
		err := checkConstraints(ca, cert)
		if err == nil {
			err = checkDirectoryNames(cert, permitted, excluded)
		}
		if err != nil {
			return fmt.Errorf("certificate %s is outside what CA %s may sign: %w", title(cert), title(ca), err)
		}
	}
	return nil
}

// verifyPolicies leaves the policy graph (RFC 9618) to crypto/x509. Since no
// policy is asked for, it matters only if a CA requires an explicit one.
func verifyPolicies(path []*x509.Certificate, at time.Time) error {
	required := slices.ContainsFunc(path, func(c *x509.Certificate) bool {
		return c.RequireExplicitPolicy > 0 || c.RequireExplicitPolicyZero
	})
	if !required || len(path) < 2 {
		return nil
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(path[len(path)-1])
	for _, cert := range path[1 : len(path)-1] {
		intermediates.AddCert(cert)
	}
	_, err := path[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("a CA of the chain requires certificate policies: %w", err)
	}
	return nil
}

var (
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// parseSubtrees returns the directory names among name constraints, which
// crypto/x509 does not know. A constraint of another kind that it does not know
// either is an error.
func parseSubtrees(raw []byte) (permitted, excluded []canonicalName, err error) {
	var constraints struct {
		Permitted []asn1.RawValue `asn1:"optional,tag:0"`
		Excluded  []asn1.RawValue `asn1:"optional,tag:1"`
	}
	if err := unmarshal(raw, &constraints); err != nil {
		return nil, nil, fmt.Errorf("malformed name constraints: %w", err)
	}
	if permitted, err = directoryNames(constraints.Permitted); err != nil {
		return nil, nil, err
	}
	excluded, err = directoryNames(constraints.Excluded)
	return permitted, excluded, err
}

func directoryNames(subtrees []asn1.RawValue) ([]canonicalName, error) {
	var names []canonicalName
	for _, subtree := range subtrees {
		var base asn1.RawValue
		rest, err := asn1.Unmarshal(subtree.Bytes, &base)
		switch {
		case err != nil:
			return nil, fmt.Errorf("malformed name constraints: %w", err)
		case len(rest) > 0 && !bytes.Equal(rest, []byte{0x80, 1, 0}): // section 4.2.1.10: a minimum of 0, no maximum
			return nil, errors.New("name constraints with a minimum or maximum are not supported")
		case base.Class != asn1.ClassContextSpecific:
			return nil, errors.New("malformed name constraints")
		}
		switch base.Tag {
		case 1, 2, 6, 7: // those of crypto/x509: e-mail, DNS, URI, IP
		case 4:
			name, ok := parseName(base.Bytes)
			if !ok {
				return nil, errors.New("malformed directory name in the name constraints")
			}
			names = append(names, name)
		default:
			return nil, errors.New("name constraints of a kind that is not supported")
		}
	}
	return names, nil
}

// checkDirectoryNames checks the subject, unless it is empty, and the directory
// names among the subject alternative names.
func checkDirectoryNames(cert *x509.Certificate, permitted, excluded []canonicalName) error {
	if len(permitted)+len(excluded) == 0 {
		return nil
	}
	var names []canonicalName
	subject, ok := parseName(cert.RawSubject)
	if !ok {
		return errors.New("malformed subject")
	}
	if len(subject) > 0 {
		names = append(names, subject)
	}
	var sans []asn1.RawValue
	if raw := extensionOf(cert, oidSubjectAltName); raw != nil && unmarshal(raw, &sans) != nil {
		return errors.New("malformed subject alternative names")
	}
	for _, san := range sans {
		if san.Class != asn1.ClassContextSpecific || san.Tag != 4 {
			continue
		}
		name, ok := parseName(san.Bytes)
		if !ok {
			return errors.New("malformed directory name")
		}
		names = append(names, name)
	}
	for _, name := range names {
		within := func(base canonicalName) bool { return name.within(base) }
		if slices.ContainsFunc(excluded, within) || len(permitted) > 0 && !slices.ContainsFunc(permitted, within) {
			return fmt.Errorf("directory name %q is not allowed by the name constraints", strings.Join(name, ", "))
		}
	}
	return nil
}
