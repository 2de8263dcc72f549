package view

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// VerifyReport is what verify found of the spec's certificates, as JSON.
type VerifyReport struct {
	FormatVersion int                   `json:"formatVersion"`
	Time          time.Time             `json:"time"`
	OK            int                   `json:"ok"`
	Failed        int                   `json:"failed"`
	Certificates  []VerifiedCertificate `json:"certificates"`
}

// VerifyVersion is the version of VerifyReport and FileVerifyReport.
const VerifyVersion = 1

// VerifiedCertificate is what verify found of one certificate.
type VerifiedCertificate struct {
	Kind        string    `json:"kind"`
	Name        string    `json:"name"`
	Issuer      string    `json:"issuer,omitempty"`
	OK          bool      `json:"ok"`
	Problems    []string  `json:"problems"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	NotAfter    time.Time `json:"notAfter,omitzero"`
	Chain       []string  `json:"chain,omitempty"` // subjects, leaf first, root last
}

// Add adds what was found of one certificate: it is right if there are no problems.
func (r *VerifyReport) Add(c VerifiedCertificate) {
	if c.OK = len(c.Problems) == 0; c.OK {
		r.OK++
	} else {
		r.Failed++
	}
	r.Certificates = append(r.Certificates, c)
}

// Verified writes a line for each certificate, and a summary.
func Verified(w io.Writer, r VerifyReport) error {
	out := bufio.NewWriter(w)
	p := newPainter(w)
	for i := range r.Certificates {
		c := &r.Certificates[i]
		title := spec.ID{Kind: spec.Kind(c.Kind), Name: c.Name}.Title()
		if c.OK {
			fmt.Fprintf(out, "%s: %s, expires %s\n", title, p.paint(green, "ok"), expires(c.NotAfter, r.Time))
		} else {
			fmt.Fprintf(out, "%s: %s: %s\n", title, p.paint(red, "wrong"), strings.Join(c.Problems, "; "))
		}
	}
	fmt.Fprintln(out, p.paint(bold, fmt.Sprintf("Verify: %d ok, %d wrong.", r.OK, r.Failed)))
	return out.Flush()
}

// FileVerifyReport is what verify found of a certificate file, as JSON.
type FileVerifyReport struct {
	FormatVersion int               `json:"formatVersion"`
	File          string            `json:"file"`
	Time          time.Time         `json:"time"`
	Purpose       string            `json:"purpose"`
	Name          string            `json:"name,omitempty"`
	OK            bool              `json:"ok"`
	Error         string            `json:"error,omitempty"`
	Chains        [][]VerifiedChain `json:"chains,omitempty"` // each leaf first, trust anchor last
}

// VerifiedChain is one certificate of a chain.
type VerifiedChain struct {
	Subject     string          `json:"subject"`
	Fingerprint pki.Fingerprint `json:"fingerprint"`
	NotAfter    time.Time       `json:"notAfter"`
}

// FileVerification makes the report of a certificate file.
func FileVerification(file string, o pki.VerifyOptions, chains [][]*x509.Certificate, err error) FileVerifyReport {
	r := FileVerifyReport{FormatVersion: VerifyVersion, File: file, Time: o.At, Purpose: o.Purpose, Name: o.Name, OK: err == nil}
	if err != nil {
		r.Error = err.Error()
	}
	for _, chain := range chains {
		var certs []VerifiedChain
		for _, c := range chain {
			certs = append(certs, VerifiedChain{pki.SubjectString(c.Subject), pki.CertificateFingerprint(c), c.NotAfter})
		}
		r.Chains = append(r.Chains, certs)
	}
	return r
}

// Chain writes that a file is right, and the chain that shows it.
func Chain(w io.Writer, file string, chain []*x509.Certificate) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s: %s\n", printable(file), newPainter(w).paint(green, "ok"))
	for i, c := range chain {
		trusted := ""
		if i == len(chain)-1 {
			trusted = ", trusted"
		}
		subject := pki.SubjectString(c.Subject)
		if subject == "" {
			subject = "(no subject)"
		}
		fmt.Fprintf(out, "  %d  %s (until %s%s)\n", i, subject, date(c.NotAfter), trusted)
	}
	return out.Flush()
}
