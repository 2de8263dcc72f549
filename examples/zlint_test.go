package examples

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rules are the sources of zlint's lints that hold for any X.509 certificate. The
// others are those of browsers and of the CAs that they trust.
const rules = "RFC3279,RFC5280,RFC5480,RFC5891,RFC8813,Community"

// TestZlint has zlint judge every certificate that an example issues.
func TestZlint(t *testing.T) {
	zlint := buildZlint(t)
	specs, err := filepath.Glob("*/certsync.yaml")
	if err != nil || len(specs) == 0 {
		t.Fatalf("found no examples: %v", err)
	}
	for _, spec := range specs {
		if needsCluster(spec) {
			continue
		}
		t.Run(filepath.Dir(spec), func(t *testing.T) {
			for _, finding := range lint(t, zlint, issued(t, copyOf(t, spec))) {
				t.Error(finding)
			}
		})
	}
	t.Run("all that a spec can ask for", func(t *testing.T) {
		for _, finding := range lint(t, zlint, issued(t, specDir(t, everything))) {
			t.Error(finding)
		}
	})
	t.Run("what a spec should not ask for is found", func(t *testing.T) {
		findings := strings.Join(lint(t, zlint, issued(t, specDir(t, dubious))), "\n")
		for _, want := range []string{"e_subj_email_not_in_san", "e_ext_name_constraints_not_critical"} {
			if !strings.Contains(findings, want) {
				t.Errorf("zlint does not find %s:\n%s", want, findings)
			}
		}
	})
}

// everything has each kind of key, name, usage and limit.
const everything = `
apiVersion: certsync/v1
issuers:
  root:
    ca:
      commonName: Root Ω
      subject:
        countries: [DE]
        provinces: [Bayern]
        localities: [München]
        streetAddresses: [Straße 1]
        postalCodes: ["01067"]
        organizations: [Example, Ünother]
        organizationalUnits: [a, b]
        serialNumber: "4711"
        emailAddress: ca@example.com
      emailAddresses: [ca@example.com]
      privateKey: {algorithm: RSA, size: 4096}
      pathLen: 2
      duration: 100y
      files: {certificate: root.crt, privateKey: root.key}
  limited:
    ca:
      issuer: root
      commonName: limited
      privateKey: {algorithm: Ed25519}
      pathLen: 1
      nameConstraints:
        permitted:
          dnsDomains: [example.com, bücher.example, .below.example]
          ipRanges: [10.0.0.0/8, "2001:db8::/32"]
          emailAddresses: [example.com, .example.org, one@example.net]
          uriDomains: [example.com, .example.com]
        excluded:
          dnsDomains: [not.example.com]
          ipRanges: [10.1.0.0/16]
          emailAddresses: [x@example.com]
      files: {certificate: limited.crt, privateKey: limited.key}
  services:
    ca: {issuer: limited, commonName: services, pathLen: 0, privateKey: {size: 521}, files: {certificate: services.crt, privateKey: services.key}}
defaults:
  issuer: root
  files: {certificate: "${certificate.name}.crt", privateKey: "${certificate.name}.key"}
certificates:
  no-subject:
    issuer: services
    profile: peer
    dnsNames: [www.example.com, "*.www.example.com", bücher.example]
    ipAddresses: [10.0.0.1, "2001:db8::1"]
    uris: ["spiffe://www.example.com/web"]
    emailAddresses: [jane@example.com]
  ${each.key}-rsa: {forEach: [server, client, peer], issuer: services, profile: "${each.key}", commonName: rsa, dnsNames: [www.example.com], privateKey: {algorithm: RSA}}
  p384: {profile: server, dnsNames: [localhost, under_score.example.com], privateKey: {size: 384}}
  long: {profile: client, commonName: "system:node:a.b", subject: {organizations: ["system:nodes"]}, duration: 200y}
  email: {emailAddresses: [jane@example.com], usages: [digital signature, content commitment, email protection]}
  bare: {commonName: bare}
  bare-rsa: {commonName: bare, privateKey: {algorithm: RSA, size: 3072}}
  any: {commonName: any, usages: [digital signature, any]}
  many: {commonName: many, privateKey: {algorithm: Ed25519}, usages: [digital signature, ocsp signing, code signing, timestamping, ipsec user]}
`

// dubious is what certsync does if told to, and RFC 5280 does not want: an address
// only in the subject (4.1.2.6), constraints that may be ignored (4.2.1.10).
const dubious = `
apiVersion: certsync/v1
issuers:
  root:
    ca:
      commonName: root
      subject: {emailAddress: ca@example.com}
      nameConstraints: {critical: false, permitted: {dnsDomains: [example.com]}}
      files: {certificate: root.crt, privateKey: root.key}
`

// buildZlint returns the program, which it builds: the first time that takes a while, later
// go has it in its cache.
func buildZlint(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("zlint takes a while to build")
	}
	program := filepath.Join(t.TempDir(), "zlint")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/zmap/zlint/v3/cmd/zlint")
	build.Dir = filepath.Join("..", ".ci", "zlint")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("build zlint: %v\n%s", err, out)
		}
		t.Skipf("build zlint: %v\n%s", err, out)
	}
	return program
}

// specDir returns a directory with the spec.
func specDir(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// embedded is what a kubeconfig holds instead of naming a file.
var embedded = regexp.MustCompile(`(?m)^ +[a-z-]+-data: (\S+)$`)

// issued applies the spec in dir and returns each certificate by its fingerprint.
func issued(t *testing.T, dir string) map[string]*pem.Block {
	t.Helper()
	mustRun(t, dir, certsync, "apply", "--yes")
	certs := map[string]*pem.Block{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range embedded.FindAllSubmatch(text, -1) {
			data, err := base64.StdEncoding.DecodeString(string(m[1]))
			if err != nil {
				return err
			}
			text = append(text, data...)
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				digest := sha256.Sum256(block.Bytes)
				certs[hex.EncodeToString(digest[:])] = block
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	// None is overlooked, such as one that is in a keystore alone.
	var status struct {
		Certificates []struct{ Name, Fingerprint string }
	}
	cmd := exec.Command(certsync, "status", "-o", "json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Certificates {
		if certs[c.Fingerprint] == nil {
			t.Errorf("%s is in no file that this test reads", c.Name)
		}
	}
	if len(certs) != len(status.Certificates) {
		t.Errorf("%d certificates were found, and %d issued", len(certs), len(status.Certificates))
	}
	return certs
}

// lint returns what zlint has to say against the certificates, warnings too.
func lint(t *testing.T, zlint string, certs map[string]*pem.Block) (findings []string) {
	t.Helper()
	dir := t.TempDir()
	fingerprints := slices.Sorted(maps.Keys(certs))
	args := []string{"-includeSources", rules}
	for _, fingerprint := range fingerprints {
		path := filepath.Join(dir, fingerprint)
		if err := os.WriteFile(path, pem.EncodeToMemory(certs[fingerprint]), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out, err := exec.Command(zlint, args...).Output()
	if err != nil {
		t.Fatalf("zlint: %v\n%s", err, out)
	}
	answers := json.NewDecoder(strings.NewReader(string(out)))
	for _, fingerprint := range fingerprints {
		var results map[string]struct{ Result, Details string }
		if err := answers.Decode(&results); err != nil {
			t.Fatalf("zlint: %v\n%s", err, out)
		}
		passed := 0
		for _, name := range slices.Sorted(maps.Keys(results)) {
			switch r := results[name]; r.Result {
			case "pass":
				passed++
			case "NA", "NE", "info": // not applicable, not in effect, for information
			default:
				findings = append(findings, fmt.Sprintf("%s: %s %s\n%s", r.Result, name, r.Details,
					mustRun(t, dir, certsync, "inspect", fingerprint)))
			}
		}
		if passed == 0 {
			t.Errorf("no lint looked at %s", fingerprint)
		}
	}
	return findings
}
