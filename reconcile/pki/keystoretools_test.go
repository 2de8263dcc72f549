package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

// tool runs a program in a directory, and returns all that it writes.
type tool func(dir string, args ...string) (string, error)

// must is tool for what has to succeed.
func (run tool) must(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := run(dir, args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// requireTool returns a function that runs a program in a directory, as
// requireOpenSSL does.
func requireTool(t testing.TB, name string) func(dir string, args ...string) string {
	t.Helper()
	run := findTool(t, name)
	return func(dir string, args ...string) string {
		t.Helper()
		return run.must(t, dir, args...)
	}
}

// findTool returns a program that may fail; without it the test is skipped, and
// fails in CI.
func findTool(t testing.TB, name string, always ...string) tool {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed, and CI must run this test", name)
	}
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed", name)
	}
	return func(dir string, args ...string) (string, error) {
		cmd := exec.Command(path, append(args, always...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// requireKeytool returns Java's keytool, told to start fast and to write UTF-8.
func requireKeytool(t testing.TB) tool {
	return findTool(t, "keytool", "-J-XX:TieredStopAtLevel=1", "-J-Dfile.encoding=UTF-8", "-J-Dsun.stdout.encoding=UTF-8")
}

func writeFile(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The aliases have capitals, which Java does not keep, and a blank. openssl shows
// none that is not ASCII.
const (
	toolAlias  = "Wéb 1"
	asciiAlias = "Web 1"
)

// toolCase is a keystore in the file "store" of a directory, with its password in
// the file "pass".
type toolCase struct {
	alias     string
	form      spec.Form
	profile   spec.Profile
	algorithm spec.Algorithm
	password  string
	m         Material
	dir       string
}

// limit is what a program is known not to read; the guide tells of each.
type limit struct {
	of func(c *toolCase) bool
	// says is in what the program says.
	says string
	// until tells that later versions do read it.
	until bool
}

func nonASCII(c *toolCase) bool   { return c.form == spec.FormPKCS12 && c.password == utf8Password }
func modern2026(c *toolCase) bool { return c.profile == spec.ProfileModern2026 }
func ed25519Key(c *toolCase) bool { return c.algorithm == spec.Ed25519 }
func noPassword(c *toolCase) bool { return c.profile == spec.ProfilePasswordless }

// toolReads has a program read keystores of every form and profile, with every kind
// of key, and of password. read returns the entries as the program
// sees them, and the public half of the key that it gets.
func toolReads(t *testing.T, alias string, forms []spec.Form, limits []limit, read func(t *testing.T, c *toolCase) (entries []namedPEM, public []byte, out string, err error)) {
	for _, alg := range []struct {
		algorithm spec.Algorithm
		size      int
	}{{spec.RSA, 2048}, {spec.ECDSA, 256}, {spec.Ed25519, 0}} {
		if testing.Short() && alg.algorithm != spec.ECDSA {
			continue
		}
		m := keystoreMaterial(t, alg.algorithm, alg.size)
		for _, form := range forms {
			profiles := allProfiles
			if form == spec.FormJKS {
				profiles = []spec.Profile{""}
			}
			for _, profile := range profiles {
				for kind, password := range map[string]string{"ascii": "changeit", "utf8": utf8Password, "empty": ""} {
					if profile == spec.ProfilePasswordless && password != "" || form == spec.FormJKS && password == "" {
						continue // which are refused
					}
					if alg.algorithm != spec.ECDSA && kind != "ascii" && profile != spec.ProfilePasswordless {
						continue // passwords are the same to every kind of key
					}
					t.Run(fmt.Sprintf("%s%s/%s/%s", form, profile, alg.algorithm, kind), func(t *testing.T) {
						t.Parallel()
						c := &toolCase{alias, form, profile, alg.algorithm, password, m, t.TempDir()}
						writeFile(t, c.dir, "store", encodeKeystore(t, form, m, KeystoreOptions{alias, profile, []byte(password)}))
						writeFile(t, c.dir, "pass", []byte(password+"\n"))
						entries, public, out, err := read(t, c)
						for _, l := range limits {
							if !l.of(c) || l.until && err == nil {
								continue
							}
							if err == nil || !strings.Contains(out, l.says) {
								t.Errorf("known not to read this, with %q: %v\n%s", l.says, err, brief(out))
							}
							return
						}
						if err != nil {
							t.Fatalf("%v\n%s", err, brief(out))
						}
						c.check(t, entries, public, out)
					})
				}
			}
		}
	}
}

// check compares names, certificates to the byte, and so their validity, and the
// key with what was written.
func (c *toolCase) check(t *testing.T, entries []namedPEM, public []byte, out string) {
	t.Helper()
	if !bytes.Equal(public, c.m.Chain[0].RawSubjectPublicKeyInfo) {
		t.Errorf("another private key:\n%s", brief(out))
	}
	alias := c.alias
	if entries != nil && entries[0].lower {
		alias = JavaAlias(alias)
	}
	find := func(name string, cert *x509.Certificate) bool {
		for _, e := range entries {
			if e.block.Type == "CERTIFICATE" && bytes.Equal(e.block.Bytes, cert.Raw) && (name == "" || e.name == name) {
				return true
			}
		}
		return false
	}
	leaf := alias
	if c.profile == spec.ProfileLegacyRC2 && !entries[0].lower {
		leaf = "" // the name stands with the key
	}
	if !find(leaf, c.m.Chain[0]) || !find("", c.m.Chain[1]) || !find(TrustedAlias(alias), c.m.Anchor) {
		t.Errorf("other certificates, or names:\n%s", brief(out))
	}
}

// brief leaves out what the blocks of PEM hold.
func brief(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if strings.ContainsAny(strings.TrimSpace(line), " -<") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// namedPEM is a block of PEM with the name that a program gives it.
type namedPEM struct {
	name  string
	lower bool // the program does not keep capitals
	block *pem.Block
}

// namedBlocks finds the blocks in what a program writes, and the name before each.
// A line that starts with next begins something else.
func namedBlocks(out, next, name string) []namedPEM {
	var found []namedPEM
	var current, block string
	for line := range strings.Lines(out) {
		text := strings.TrimSpace(line)
		switch after, ok := strings.CutPrefix(text, name); {
		case ok:
			current = strings.TrimSpace(after)
		case strings.HasPrefix(text, next):
			current = ""
		case block != "" || strings.HasPrefix(text, "-----BEGIN "):
			block += text + "\n"
		}
		if strings.HasPrefix(text, "-----END ") {
			if p, _ := pem.Decode([]byte(block)); p != nil {
				found = append(found, namedPEM{name: current, block: p})
			}
			block = ""
		}
	}
	return found
}

// publicOf returns the public half of the private key that has the alias.
func (c *toolCase) publicOf(t *testing.T, blocks []namedPEM) []byte {
	t.Helper()
	for _, b := range blocks {
		if !strings.HasSuffix(b.block.Type, "PRIVATE KEY") || b.name != c.alias {
			continue
		}
		der := b.block.Bytes
		if b.block.Type == "ENCRYPTED PRIVATE KEY" {
			var enc encryptedKey
			err := unmarshal(der, &enc)
			if err == nil {
				der, err = p12Decrypt(enc, newP12Password([]byte(c.password)), maxKeystoreIterations)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		key, err := keystoreKey(der)
		if err != nil {
			t.Fatal(err)
		}
		return publicDER(t, key)
	}
	return nil
}

func publicDER(t *testing.T, key *Key) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Signer().Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeystoreOpenSSL(t *testing.T) {
	openssl := findTool(t, "openssl")
	limits := []limit{{of: modern2026, says: "mac generation error", until: true}}
	toolReads(t, asciiAlias, []spec.Form{spec.FormPKCS12}, limits, func(t *testing.T, c *toolCase) ([]namedPEM, []byte, string, error) {
		args := []string{"pkcs12", "-in", "store", "-passin", "file:pass", "-nodes"}
		if c.profile == spec.ProfileLegacyRC2 {
			if out, err := openssl(c.dir, args...); err == nil || !strings.Contains(out, "RC2-40-CBC") {
				t.Errorf("without -legacy: %v\n%s", err, out)
			}
			args = append(args, "-legacy")
		}
		out, err := openssl(c.dir, args...)
		blocks := namedBlocks(out, "Bag Attributes", "friendlyName:")
		return blocks, c.publicOf(t, blocks), out, err
	})
}

func TestKeystoreGnuTLS(t *testing.T) {
	certtool := findTool(t, "certtool")
	limits := []limit{
		{of: modern2026, says: "verify_mac: The hash algorithm is unknown", until: true},
		{of: noPassword, says: "verify_mac: ASN1 parser: Element was not found"},
	}
	toolReads(t, toolAlias, []spec.Form{spec.FormPKCS12}, limits, func(t *testing.T, c *toolCase) ([]namedPEM, []byte, string, error) {
		out, err := certtool(c.dir, "--p12-info", "--inder", "--infile", "store", "--password", c.password)
		blocks := namedBlocks(out, "Type:", "Friendly name:")
		if err != nil || c.password == "" {
			// certtool shows the key encrypted, and opens one without a password only
			// if a terminal says so.
			return blocks, c.publicOf(t, blocks), out, err
		}
		for _, b := range blocks {
			if b.block.Type == "ENCRYPTED PRIVATE KEY" && b.name == c.alias {
				writeFile(t, c.dir, "key", pem.EncodeToMemory(b.block))
			}
		}
		info := certtool.must(t, c.dir, "--pubkey-info", "--load-privkey", "key", "--password", c.password)
		return blocks, namedBlocks(info, "\x00", "\x00")[0].block.Bytes, out, nil
	})
}

// TestKeystoreNSS imports as Firefox and Chromium do.
func TestKeystoreNSS(t *testing.T) {
	pk12util, certutil, openssl := findTool(t, "pk12util"), findTool(t, "certutil"), findTool(t, "openssl")
	limits := []limit{
		{of: modern2026, says: "SEC_ERROR_", until: true},
		{of: noPassword, says: "SEC_ERROR_"},
		{of: ed25519Key, says: "SEC_ERROR_PKCS12_UNABLE_TO_IMPORT_KEY", until: true},
	}
	toolReads(t, asciiAlias, []spec.Form{spec.FormPKCS12}, limits, func(t *testing.T, c *toolCase) ([]namedPEM, []byte, string, error) {
		certutil.must(t, c.dir, "-N", "-d", "sql:.", "--empty-password")
		out, err := pk12util(c.dir, "-d", "sql:.", "-i", "store", "-W", c.password)
		if err != nil {
			return nil, nil, out, err
		}
		var blocks []namedPEM
		list := certutil.must(t, c.dir, "-L", "-d", "sql:.")
		for line := range strings.Lines(list) {
			name, _, ok := strings.Cut(line, "   ")
			if name = strings.TrimSpace(name); !ok || name == "" || strings.HasPrefix(name, "Certificate Nickname") {
				continue
			}
			for _, b := range namedBlocks(certutil.must(t, c.dir, "-L", "-d", "sql:.", "-n", name, "-a"), "\x00", "\x00") {
				blocks = append(blocks, namedPEM{name: name, block: b.block})
			}
		}
		out += list + pk12util.must(t, c.dir, "-d", "sql:.", "-o", "theirs", "-n", c.alias, "-W", "changeit")
		// It writes BER, which is not for us to read.
		key := openssl.must(t, c.dir, "pkcs12", "-in", "theirs", "-passin", "pass:changeit", "-nodes", "-nocerts")
		return blocks, c.publicOf(t, namedBlocks(key, "Bag Attributes", "friendlyName:")), out, nil
	})
}

func TestKeystoreKeytool(t *testing.T) {
	keytool := requireKeytool(t)
	limits := []limit{
		{of: nonASCII, says: "keystore password was incorrect"},
		{of: modern2026, says: "Integrity check failed", until: true},
		{of: noPassword, says: "Alias <" + JavaAlias(toolAlias) + "> does not exist"},
	}
	toolReads(t, toolAlias, []spec.Form{spec.FormPKCS12, spec.FormJKS}, limits, func(t *testing.T, c *toolCase) ([]namedPEM, []byte, string, error) {
		out, err := keytool(c.dir, "-list", "-rfc", "-keystore", "store", "-storepass:file", "pass")
		if err != nil {
			return nil, nil, out, err
		}
		blocks := namedBlocks(out, "\x00", "Alias name:")
		for i := range blocks {
			blocks[i].lower = true
		}
		// That Java gets at the key itself shows when it writes another keystore.
		args := []string{"-importkeystore", "-noprompt", "-srckeystore", "store", "-srcstorepass:file", "pass", "-srcalias", JavaAlias(toolAlias),
			"-destkeystore", "theirs", "-deststoretype", string(c.form), "-deststorepass:file", "pass"}
		password := c.password
		if password == "" {
			password = "changeit"
			args = append(args[:len(args)-2], "-deststorepass", password, "-destkeypass", password)
		}
		imported, err := keytool(c.dir, args...)
		out += imported
		if err != nil {
			return nil, nil, out, err
		}
		store, err := ParseKeystore(c.form, []byte(read(t, c.dir, "theirs")), secret(password))
		if err != nil {
			t.Fatalf("as Java writes it: %v", err)
		}
		entry, err := store.Entry()
		if err != nil || entry.Alias != JavaAlias(toolAlias) {
			t.Fatalf("as Java writes it: %v\n%s", err, out)
		}
		return blocks, publicDER(t, entry.Key), out, nil
	})
}
