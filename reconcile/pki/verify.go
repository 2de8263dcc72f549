package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Purposes of a certificate, for VerifyOptions.
const (
	PurposeServer = "server"
	PurposeClient = "client"
	PurposeAny    = "any" // or empty
)

// VerifyOptions tell what a certificate is verified against.
type VerifyOptions struct {
	// Trust are the trust anchors. That one is in here is what makes it trusted:
	// it may be self-signed or not, and of a version of X.509 that cannot tell
	// CAs, but it must be valid at the time.
	Trust []*x509.Certificate
	// Untrusted may serve as intermediates.
	Untrusted []*x509.Certificate
	// CRLs, if there are any, must cover every certificate below the anchor.
	CRLs []*x509.RevocationList
	// Purpose is one of the Purpose constants.
	Purpose string
	// Name is a DNS name (as A-labels) or an IP address that the certificate must
	// be for. It is looked up in the subject alternative names alone (RFC 9525,
	// section 6.3); empty for no such check.
	Name string
	// At is the time for which everything must hold.
	At time.Time
}

// Bounds of the search, so that hostile input cannot keep it busy.
const (
	maxPathCerts  = 16
	maxSignatures = 200
	maxSteps      = 10_000
	maxPaths      = 100
)

// Verify validates the certificate by RFC 5280, section 6, and returns every
// chain that is valid, leaf first and anchor last. Without one the error tells
// why, of the path that came closest.
//
// It builds the paths itself and uses crypto/x509 for parsing, signatures and
// policies only. x509.Certificate.Verify compares names byte by byte instead of
// by section 7.1, counts self-issued certificates against pathLen (6.1.4 (l)),
// does not look at the key usages of CAs (6.1.4 (n)), takes a host in a constraint
// on e-mail or URIs for a domain (4.2.1.10), leaves out the e-mail address of the
// subject, refuses URIs without a host under constraints that are not about
// URIs, knows no CRLs, and does not tell what was wrong with an intermediate.
// Duplicate extensions (4.2) and negative serial numbers its parser refuses.
func Verify(cert *x509.Certificate, o VerifyOptions) ([][]*x509.Certificate, error) {
	if o.At.IsZero() {
		return nil, errors.New("no time given to verify the certificate for")
	}
	switch o.Purpose {
	case "", PurposeAny, PurposeServer, PurposeClient:
	default:
		return nil, fmt.Errorf("purpose %q is not known: use server, client or any", o.Purpose)
	}
	// First what holds on every path, so that a hopeless search is not the reason given.
	if err := verifyLeaf(cert, &o); err != nil {
		return nil, err
	}

	s := search{options: &o, checked: map[[2]*x509.Certificate]error{}}
	s.extend([]*x509.Certificate{cert})
	if len(s.paths) == 0 {
		return nil, s.noPath(cert)
	}
	var chains [][]*x509.Certificate
	var reason error
	for _, path := range s.paths {
		err := verifyPath(path, &o)
		if err == nil {
			chains = append(chains, path)
		} else if reason == nil {
			reason = err
		}
	}
	if len(chains) == 0 {
		return nil, reason
	}
	return chains, nil
}

// search looks for the paths from a certificate to an anchor by names and
// signatures; whether they are valid is not its business.
type search struct {
	options    *VerifyOptions
	paths      [][]*x509.Certificate
	checked    map[[2]*x509.Certificate]error
	signatures int
	steps      int
	deadEnd    error // why the longest path ended
	deadLength int
	exhausted  bool
}

func (s *search) extend(path []*x509.Certificate) {
	last := path[len(path)-1]
	if s.steps++; s.steps > maxSteps {
		s.exhausted = true
	}
	if len(s.paths) >= maxPaths || s.exhausted {
		return
	}
	if isOneOf(last, s.options.Trust) {
		s.paths = append(s.paths, slices.Clone(path))
		return
	}
	found := false
	for i, list := range [][]*x509.Certificate{s.options.Trust, s.options.Untrusted} {
		for _, candidate := range byKeyIdentifier(last, list) {
			if i == 1 && isOneOf(candidate, s.options.Trust) || // seen before
				isOneOf(candidate, path) || !sameName(last.RawIssuer, candidate.RawSubject) {
				continue
			}
			if len(path) == maxPathCerts {
				s.end(path, fmt.Errorf("more than %d certificates in a chain", maxPathCerts))
				return
			}
			if err := s.signature(last, candidate); err != nil {
				s.end(path, fmt.Errorf("certificate %s is not signed by the key of %s: %w", title(last), title(candidate), err))
				continue
			}
			found = true
			s.extend(append(path, candidate))
		}
	}
	if found {
		return
	}
	if selfIssued(last) {
		s.end(path, fmt.Errorf("certificate %s is self-signed, and not trusted", title(last)))
		return
	}
	s.end(path, fmt.Errorf("the issuer of certificate %s, %q, is not among the given certificates", title(last), SubjectString(last.Issuer)))
}

func (s *search) signature(cert, issuer *x509.Certificate) error {
	pair := [2]*x509.Certificate{cert, issuer}
	err, known := s.checked[pair]
	if known {
		return err
	}
	if s.signatures++; s.signatures > maxSignatures {
		s.exhausted = true
		return errors.New("too many signatures to check")
	}
	err = goodSignature(cert, issuer)
	s.checked[pair] = err
	return err
}

// end remembers why the search stopped where it came closest to an anchor.
func (s *search) end(path []*x509.Certificate, reason error) {
	if len(path) > s.deadLength {
		s.deadLength, s.deadEnd = len(path), reason
	}
}

func (s *search) noPath(cert *x509.Certificate) error {
	if s.exhausted {
		return fmt.Errorf("no chain to a trusted root: gave up on certificate %s: there are too many ways to go", title(cert))
	}
	return fmt.Errorf("no chain to a trusted root: %w", s.deadEnd)
}

// goodSignature tells whether issuer's key signed cert, with an algorithm that
// is still good for certificates.
func goodSignature(cert, issuer *x509.Certificate) error {
	switch cert.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return x509.InsecureAlgorithmError(cert.SignatureAlgorithm)
	}
	return issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}

// byKeyIdentifier puts those first whose key identifier is the one that cert
// names. It is no more than a hint (RFC 5280, section 4.2.1.1).
func byKeyIdentifier(cert *x509.Certificate, list []*x509.Certificate) []*x509.Certificate {
	rank := func(c *x509.Certificate) int {
		if len(cert.AuthorityKeyId) > 0 && bytes.Equal(c.SubjectKeyId, cert.AuthorityKeyId) {
			return 0
		}
		return 1
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *x509.Certificate) int { return rank(a) - rank(b) })
	return list
}

func isOneOf(cert *x509.Certificate, list []*x509.Certificate) bool {
	return slices.ContainsFunc(list, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, cert.Raw) })
}
