// Command floor does, as plainly as Go allows, what certsync is measured against.
// It has no plan, no journal, no records and no checks: it is the cost of the work
// that nobody can avoid.
//
//	floor apply DIR N    makes a CA and N certificates in DIR, each file synced
//	floor plan SPEC      parses SPEC, and compares each certificate with its key
//	floor requests KUBECONFIG DIR N
//	                     has a cluster sign N certificates into DIR
//	floor namespace KUBECONFIG NAMESPACE
//	floor create-secrets KUBECONFIG NAMESPACE N
//	floor get-secrets KUBECONFIG NAMESPACE N
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "apply":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return apply(args[1], n)
	case len(args) == 2 && args[0] == "plan":
		return plan(args[1])
	case len(args) == 4 && args[0] == "requests":
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return requests(args[1], args[2], n)
	case len(args) == 3 && args[0] == "namespace":
		return makeNamespace(args[1], args[2])
	case len(args) == 4 && (args[0] == "create-secrets" || args[0] == "get-secrets"):
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		if args[0] == "create-secrets" {
			return createSecrets(args[1], args[2], n)
		}
		return getSecrets(args[1], args[2], n)
	}
	return errors.New("usage: floor apply DIR N, floor plan SPEC, or floor requests KUBECONFIG DIR N")
}

func apply(dir string, n int) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "ca"), der, caKey); err != nil {
		return err
	}
	for i := range n {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		serial := make([]byte, 16)
		if _, err := rand.Read(serial); err != nil {
			return err
		}
		name := fmt.Sprintf("host-%06d", i)
		leaf := &x509.Certificate{
			SerialNumber: new(big.Int).SetBytes(serial), DNSNames: []string{name + ".example.com"},
			NotBefore: now.Add(-5 * time.Minute), NotAfter: now.AddDate(0, 3, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
		if err != nil {
			return err
		}
		bucket := filepath.Join(dir, "pki", fmt.Sprintf("%03d", i/1000))
		if i%1000 == 0 {
			if err := os.MkdirAll(bucket, 0o755); err != nil {
				return err
			}
		}
		if err := write(filepath.Join(bucket, name), der, key); err != nil {
			return err
		}
	}
	return nil
}

// write writes the certificate and the key beside each other.
func write(base string, der []byte, key *ecdsa.PrivateKey) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeSynced(base+".key", 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}); err != nil {
		return err
	}
	return writeSynced(base+".crt", 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func writeSynced(path string, mode os.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(pem.EncodeToMemory(block)); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

func plan(spec string) error {
	data, err := os.ReadFile(spec)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return err
	}
	dir, n := filepath.Dir(spec), 0
	certificates := get(doc.Content[0], "certificates")
	for i := 1; i < len(certificates.Content); i += 2 {
		files := get(certificates.Content[i], "files")
		if err := compare(filepath.Join(dir, get(files, "certificate").Value), filepath.Join(dir, get(files, "privateKey").Value)); err != nil {
			return err
		}
		n++
	}
	fmt.Println(n, "certificates have their keys")
	return nil
}

func get(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return &yaml.Node{}
}

func compare(certificate, key string) error {
	der, err := readPEM(certificate)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if der, err = readPEM(key); err != nil {
		return err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	if k, ok := parsed.(*ecdsa.PrivateKey); !ok || !k.PublicKey.Equal(cert.PublicKey) {
		return fmt.Errorf("%s is not the key of %s", key, certificate)
	}
	return nil
}

func readPEM(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", path)
	}
	return block.Bytes, nil
}
