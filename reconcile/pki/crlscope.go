package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
)

// issuingPoint is IssuingDistributionPoint (RFC 5280, section 5.2.5).
type issuingPoint struct {
	Point          asn1.RawValue  `asn1:"optional,tag:0"`
	UserCerts      bool           `asn1:"optional,tag:1"`
	CACerts        bool           `asn1:"optional,tag:2"`
	SomeReasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	AttributeCerts bool           `asn1:"optional,tag:5"`
}

// distributionPoint is DistributionPoint (section 4.2.1.13).
type distributionPoint struct {
	Point     asn1.RawValue   `asn1:"optional,tag:0"`
	Reasons   asn1.BitString  `asn1:"optional,tag:1"`
	CRLIssuer []asn1.RawValue `asn1:"optional,tag:2"`
}

// inScope tells whether a CRL with this issuing distribution point covers cert
// for all reasons (section 6.3.3 (b) (2)): nil, or why not.
func inScope(raw []byte, cert *x509.Certificate) error {
	var p issuingPoint
	if err := unmarshal(raw, &p); err != nil {
		return errors.New("has a malformed issuing distribution point")
	}
	isCA := cert.BasicConstraintsValid && cert.IsCA
	switch {
	case p.Indirect:
		return errors.New("is an indirect CRL, which is not supported")
	case p.SomeReasons.BitLength > 0:
		return errors.New("covers only some reasons for revocation, which is not supported")
	case p.AttributeCerts:
		return errors.New("covers only attribute certificates")
	case p.UserCerts && isCA:
		return errors.New("does not cover CAs")
	case p.CACerts && !isCA:
		return errors.New("covers only CAs")
	case len(p.Point.FullBytes) == 0:
		return nil
	}
	names, ok := pointNames(p.Point, cert.RawIssuer)
	if !ok {
		return errors.New("has a malformed issuing distribution point")
	}
	points, ok := certificatePoints(cert)
	if !ok {
		return errors.New("cannot be matched with the certificate's malformed CRL distribution points")
	}
	for _, name := range names {
		if slices.Contains(points, name) {
			return nil
		}
	}
	return errors.New("is for a distribution point that the certificate does not name")
}

// certificatePoints returns the names of the distribution points whose CRLs come
// from the certificate's issuer and cover all reasons. A certificate without any
// counts as one whose point is named like its issuer (section 6.3.3).
func certificatePoints(cert *x509.Certificate) ([]string, bool) {
	raw := extensionOf(cert, oidDistributionPoints)
	if raw == nil {
		name, ok := parseName(cert.RawIssuer)
		return []string{directoryName(name)}, ok
	}
	var points []distributionPoint
	if unmarshal(raw, &points) != nil {
		return nil, false
	}
	var all []string
	for _, p := range points {
		if p.Reasons.BitLength > 0 || len(p.CRLIssuer) > 0 && !isNamed(p.CRLIssuer, cert.RawIssuer) {
			continue
		}
		var names []string
		var ok bool
		if len(p.Point.FullBytes) > 0 {
			names, ok = pointNames(p.Point, cert.RawIssuer)
		} else {
			names, ok = generalNames(p.CRLIssuer)
		}
		if !ok {
			return nil, false
		}
		all = append(all, names...)
	}
	return all, true
}

func isNamed(names []asn1.RawValue, issuer []byte) bool {
	return slices.ContainsFunc(names, func(n asn1.RawValue) bool {
		return n.Class == asn1.ClassContextSpecific && n.Tag == 4 && sameName(n.Bytes, issuer)
	})
}

// pointNames returns the names in a DistributionPointName, which is a CHOICE of
// full names, and of one relative to that of the CRL's issuer.
func pointNames(point asn1.RawValue, issuer []byte) ([]string, bool) {
	var choice asn1.RawValue
	if unmarshal(point.Bytes, &choice) != nil || choice.Class != asn1.ClassContextSpecific {
		return nil, false
	}
	switch choice.Tag {
	case 0:
		var list []asn1.RawValue
		for rest := choice.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, false
			}
			list = append(list, name)
		}
		return generalNames(list)
	case 1:
		base, ok := parseName(issuer)
		if !ok {
			return nil, false
		}
		rdn, ok := parseRDN(choice.FullBytes, "set,tag:1")
		return []string{directoryName(append(base, rdn))}, ok
	}
	return nil, false
}

// generalNames returns names in a form in which equal ones are equal.
func generalNames(list []asn1.RawValue) ([]string, bool) {
	var names []string
	for _, n := range list {
		if n.Class != asn1.ClassContextSpecific || n.Tag != 4 {
			names = append(names, string(n.FullBytes))
			continue
		}
		name, ok := parseName(n.Bytes)
		if !ok {
			return nil, false
		}
		names = append(names, directoryName(name))
	}
	return names, true
}

func directoryName(name canonicalName) string { return "4:" + strings.Join(name, "\x01") }
