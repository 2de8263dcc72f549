package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// requireOpenSSL returns a function that runs openssl in a directory and returns
// its output; it fails the test if openssl fails. Without openssl the test fails
// in CI and is skipped elsewhere.
func requireOpenSSL(t testing.TB) func(dir string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("openssl is not installed, and CI must run this test")
	}
	if err != nil {
		t.Skip("SKIPPED: openssl is not installed")
	}
	return func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
}

func extension(list []pkix.Extension, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i := range list {
		if list[i].Id.Equal(oid) {
			return &list[i]
		}
	}
	return nil
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
