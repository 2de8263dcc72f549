package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
)

const killSpec = `apiVersion: certsync/v1
issuers:
  ca:
    ca: {commonName: kill CA, files: {certificate: ca.crt, privateKey: ca.key}}
certificates:
  plain-${each.key}:
    forEach: [a, b, c, d]
    issuer: ca
    dnsNames: ["${each.key}.example.com"]
    files: {certificate: "${each.key}.crt", privateKey: "${each.key}.key"}
  set-${each.key}:
    forEach: [e, f]
    issuer: ca
    dnsNames: ["${each.key}.example.com"]
    directory: "${each.key}"
`

// Killed at random moments, 200 times over: the old pair or the new one is there
// each time, and the next apply goes on from it.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(killSpec), 0o600); err != nil {
		t.Fatal(err)
	}
	certsync := func(args ...string) *exec.Cmd { return selfCommand(t, dir, args...) }
	if out, err := certsync("apply", "--yes").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// How long an apply takes is learnt from those that were not killed in time.
	window, killed := 50*time.Millisecond, 0
	rounds := 200
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		cmd := certsync("apply", "--yes", "--replace", "*")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(window))
		_ = cmd.Process.Kill() // it may be done already
		if err := cmd.Wait(); err != nil && strings.Contains(err.Error(), "killed") {
			killed++
			window += window / 50
		} else if err != nil {
			t.Fatal(err)
		} else {
			window = max(window*3/4, 5*time.Millisecond)
		}
		// A plan, which recovers nothing, sees whole sets even now.
		if out, err := certsync("plan").CombinedOutput(); err != nil {
			t.Fatalf("plan after a kill: %v\n%s", err, out)
		}
		if out, err := certsync("apply", "--yes").CombinedOutput(); err != nil {
			t.Fatalf("apply after a kill: %v\n%s", err, out)
		}
		if out, err := certsync("plan", "--detailed-exitcode").CombinedOutput(); err != nil {
			t.Fatalf("the plan after the next apply is not empty: %v\n%s", err, out)
		}
		checkPairs(t, dir)
	}
	if killed < rounds/10 {
		t.Errorf("only %d of %d were killed in time", killed, rounds)
	}
	t.Logf("%d of %d were killed before they were done", killed, rounds)
}

func checkPairs(t *testing.T, dir string) {
	t.Helper()
	pairs := [][2]string{{"ca.crt", "ca.key"}}
	for _, name := range []string{"a", "b", "c", "d"} {
		pairs = append(pairs, [2]string{name + ".crt", name + ".key"})
	}
	for _, name := range []string{"e", "f"} {
		pairs = append(pairs, [2]string{name + "/tls.crt", name + "/tls.key"})
	}
	for _, p := range pairs {
		cert, err := os.ReadFile(filepath.Join(dir, p[0]))
		if err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(filepath.Join(dir, p[1]))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := pki.ParseCertificates(cert)
		if err != nil {
			t.Fatal(err)
		}
		k, _, err := pki.ParseKey(key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !k.Matches(certs[0]) {
			t.Fatalf("%s does not match %s", p[1], p[0])
		}
		if info, err := os.Stat(filepath.Join(dir, p[1])); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v %v", p[1], info.Mode(), err)
		}
	}
	stray, err := filepath.Glob(filepath.Join(dir, ".*.certsync-*"))
	if err != nil || len(stray) > 0 {
		t.Fatalf("left over: %v %v", stray, err)
	}
}
