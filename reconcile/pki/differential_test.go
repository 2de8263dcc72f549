package pki

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestVerifyAgreesWithOthers makes chains with defects at random and compares
// our verdict with that of crypto/x509, and of openssl, where they check the same.
func TestVerifyAgreesWithOthers(t *testing.T) {
	requireOpenSSL(t)
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(5, 6))
	domains := []string{"example.com", "a.example.com", "example.org", ".example.com"}
	names := []string{"example.com", "a.example.com", "b.a.example.com", "*.example.com", "badexample.com", "example.org"}
	rarely := func() bool { return r.IntN(12) == 0 }

	good := 0
	const rounds = 120
	for round := range rounds {
		unsigned := false // a CA lacks cert sign: crypto/x509 does not mind
		ca := func(c *x509.Certificate) {
			if n := r.IntN(6); n < 2 {
				c.MaxPathLen, c.MaxPathLenZero = n, n == 0
			}
			if r.IntN(4) == 0 {
				c.PermittedDNSDomains = append(c.PermittedDNSDomains, domains[r.IntN(len(domains))])
			}
			if r.IntN(6) == 0 {
				c.ExcludedDNSDomains = append(c.ExcludedDNSDomains, domains[r.IntN(len(domains))])
			}
			c.PermittedDNSDomainsCritical = true
			if rarely() {
				c.NotAfter = testNow.Add(-time.Minute)
			}
			if rarely() {
				c.KeyUsage, unsigned = x509.KeyUsageCRLSign, true
			}
		}
		root := forge(t, "root", nil, ca)
		parent, middles := root, []*issued(nil)
		for i := range r.IntN(4) {
			parent = forge(t, fmt.Sprint("middle", i), parent, func(c *x509.Certificate) {
				ca(c)
				if rarely() {
					c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
				}
				if rarely() {
					c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, -1, false
				}
			})
			middles = append(middles, parent)
		}
		leaf := forge(t, "leaf", parent, asLeaf(func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = nil, nil
			for range 1 + r.IntN(2) {
				c.DNSNames = append(c.DNSNames, names[r.IntN(len(names))])
			}
			if rarely() {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}
		}))

		_, ours := Verify(leaf.cert, VerifyOptions{Trust: certs(root), Untrusted: certs(middles...), Purpose: PurposeServer, At: testNow})
		roots, pool := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.cert)
		for _, m := range middles {
			pool.AddCert(m.cert)
		}
		_, theirs := leaf.cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: testNow})
		if (ours == nil) != (theirs == nil) && !(unsigned && strings.Contains(fmt.Sprint(ours), "cert sign")) {
			t.Fatalf("round %d: %v, but crypto/x509: %v", round, ours, theirs)
		}

		write(t, dir, "root", EncodeCertificates(root.cert))
		write(t, dir, "middles", EncodeCertificates(certs(append(middles, leaf)...)...))
		write(t, dir, "leaf", EncodeCertificates(leaf.cert))
		cmd := exec.Command("openssl", "verify", "-purpose", "sslserver", "-attime", strconv.FormatInt(testNow.Unix(), 10),
			"-CAfile", "root", "-untrusted", "middles", "leaf")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (ours == nil) != (err == nil) {
			t.Fatalf("round %d: %v, but openssl: %s", round, ours, out)
		}
		if ours == nil {
			good++
		}
	}
	if good < rounds/10 || good > rounds*9/10 {
		t.Errorf("%d of %d chains were good: the test is not worth much", good, rounds)
	}
}
