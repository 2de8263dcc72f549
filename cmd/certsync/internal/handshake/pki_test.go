package handshake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
	// chain follows the certificate when it is shown.
	chain []*x509.Certificate
}

func newECDSA(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t testing.TB) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEd25519(t testing.TB) crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate for a key; a nil issuer makes it self-signed.
func issue(t testing.TB, issuer *party, key crypto.Signer, name string, edit func(*x509.Certificate)) *party {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if edit != nil {
		edit(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert: cert, key: key}
}

func ca(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
}

func server(c *x509.Certificate) {
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
}

func client(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

func expired(c *x509.Certificate) {
	client(c)
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

// world is who meets in the tests.
type world struct {
	root, server *party
	clients      map[string]*party
}

func newWorld(t testing.TB) *world {
	root := issue(t, nil, newECDSA(t), "root", ca)
	strangers := issue(t, nil, newECDSA(t), "strangers", ca)
	twin := issue(t, nil, newECDSA(t), "root", ca)
	middle := issue(t, root, newECDSA(t), "middle", ca)
	w := &world{root: root, server: issue(t, root, newECDSA(t), "server", server), clients: map[string]*party{
		"ecdsa":     issue(t, root, newECDSA(t), "ecdsa", client),
		"rsa":       issue(t, root, newRSA(t), "rsa", client),
		"ed25519":   issue(t, root, newEd25519(t), "ed25519", client),
		"stranger":  issue(t, strangers, newECDSA(t), "stranger", client),
		"twin":      issue(t, twin, newECDSA(t), "twin", client),
		"expired":   issue(t, root, newECDSA(t), "expired", expired),
		"usage":     issue(t, root, newECDSA(t), "usage", server),
		"short":     issue(t, middle, newECDSA(t), "short", client),
		"full":      issue(t, middle, newECDSA(t), "full", client),
		"wrong key": issue(t, root, newECDSA(t), "wrong key", client),
	}}
	w.clients["full"].chain = []*x509.Certificate{middle.cert}
	w.clients["wrong key"].key = newECDSA(t)
	return w
}

// identity is what a party shows.
func (p *party) identity(t testing.TB) *Identity {
	key, err := pki.NewKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return &Identity{Name: p.cert.Subject.CommonName, Chain: append([]*x509.Certificate{p.cert}, p.chain...), Key: key}
}

func (p *party) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key}
}

// files writes certificate and key, for peers that read files.
func (p *party) files(t testing.TB) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, typ string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", p.cert.Raw), write("key.pem", "PRIVATE KEY", der)
}
