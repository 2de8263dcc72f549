package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	gopkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/certsync/certsync/spec"
)

// keystoreMaterial is a leaf below an intermediate below a root.
func keystoreMaterial(t testing.TB, a spec.Algorithm, size int) Material {
	t.Helper()
	root := issue(t, caSpec("root"), nil)
	middle := issue(t, caSpec("middle"), root)
	c := leafSpec("a.example.com")
	c.PrivateKey.Algorithm, c.PrivateKey.Size = a, size
	leaf := issue(t, c, middle)
	return Material{Key: leaf.key, Chain: Chain{leaf.cert, middle.cert}, Anchor: root.cert}
}

func secret(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

var allProfiles = []spec.Profile{spec.ProfileModern2023, spec.ProfileModern2026, spec.ProfileLegacyDES, spec.ProfileLegacyRC2, spec.ProfilePasswordless}

const utf8Password = "pässwörd-€-密"

func encodeKeystore(t testing.TB, form spec.Form, m Material, o KeystoreOptions) []byte {
	t.Helper()
	data, err := EncodeKeystore(form, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkKeystore compares a keystore that was read with what was written.
func checkKeystore(t *testing.T, store *Keystore, m Material, alias string) {
	t.Helper()
	entry, err := store.Entry()
	if err != nil {
		t.Fatal(err)
	}
	if entry.Alias != alias || entry.Key.Fingerprint() != m.Key.Fingerprint() {
		t.Errorf("the entry %q with the key %v", entry.Alias, entry.Key.Fingerprint())
	}
	if len(entry.Chain) != 2 || !entry.Chain[0].Equal(m.Chain[0]) || !entry.Chain[1].Equal(m.Chain[1]) {
		t.Errorf("a chain of %d", len(entry.Chain))
	}
	if len(store.Trusted) != 1 || store.Trusted[0].Alias != TrustedAlias(alias) || !store.Trusted[0].Cert.Equal(m.Anchor) || len(store.Others) != 0 {
		t.Errorf("trusted %v, others %v", store.Trusted, store.Others)
	}
}

func TestKeystoreRoundTrip(t *testing.T) {
	for _, alg := range []struct {
		algorithm spec.Algorithm
		size      int
	}{{spec.RSA, 2048}, {spec.ECDSA, 256}, {spec.Ed25519, 0}} {
		m := keystoreMaterial(t, alg.algorithm, alg.size)
		for _, password := range []string{"changeit", utf8Password, ""} {
			for _, profile := range allProfiles {
				if profile == spec.ProfilePasswordless && password != "" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%q", alg.algorithm, profile, password), func(t *testing.T) {
					data := encodeKeystore(t, spec.FormPKCS12, m, KeystoreOptions{"Wéb 1", profile, []byte(password)})
					store, err := ParseKeystore(spec.FormPKCS12, data, secret(password))
					if err != nil {
						t.Fatal(err)
					}
					checkKeystore(t, store, m, "Wéb 1")
					if store.Profile != profile {
						t.Errorf("read as profile %q", store.Profile)
					}
					if profile == spec.ProfilePasswordless {
						return
					}
					for name, p := range map[string]func() ([]byte, error){"wrong": secret("other"), "none": nil} {
						if _, err := ParseKeystore(spec.FormPKCS12, data, p); !errors.Is(err, ErrPassword) {
							t.Errorf("%s password: %v", name, err)
						}
					}
				})
			}
			if password == "" {
				continue
			}
			t.Run(fmt.Sprintf("%s/jks/%q", alg.algorithm, password), func(t *testing.T) {
				data := encodeKeystore(t, spec.FormJKS, m, KeystoreOptions{Alias: "Wéb 1", Password: []byte(password)})
				store, err := ParseKeystore(spec.FormJKS, data, secret(password))
				if err != nil {
					t.Fatal(err)
				}
				checkKeystore(t, store, m, "wéb 1")
				if _, err := ParseKeystore(spec.FormJKS, data, secret("other")); !errors.Is(err, ErrPassword) {
					t.Errorf("wrong password: %v", err)
				}
			})
		}
	}
}

// TestKeystoreOfRoot shows that what anchors itself is not stored twice.
func TestKeystoreOfRoot(t *testing.T) {
	root := issue(t, caSpec("root"), nil)
	m := Material{Key: root.key, Chain: Chain{root.cert}, Anchor: root.cert}
	for _, form := range []spec.Form{spec.FormPKCS12, spec.FormJKS} {
		data := encodeKeystore(t, form, m, KeystoreOptions{"root", spec.ProfileModern2023, []byte("changeit")})
		store, err := ParseKeystore(form, data, secret("changeit"))
		if err != nil {
			t.Fatal(err)
		}
		if len(store.Keys) != 1 || len(store.Keys[0].Chain) != 1 || len(store.Trusted)+len(store.Others) != 0 {
			t.Errorf("%s: %d keys, %d trusted, %d others", form, len(store.Keys), len(store.Trusted), len(store.Others))
		}
	}
}

func TestKeystorePasswordRefused(t *testing.T) {
	for _, c := range []struct {
		form     spec.Form
		profile  spec.Profile
		password string
		want     string
	}{
		{spec.FormJKS, "", "five5", "the password has 5 characters: a Java keystore needs at least 6"},
		{spec.FormJKS, "", "", "the password has 0 characters: a Java keystore needs at least 6"},
		{spec.FormPKCS12, spec.ProfileModern2023, "\xff\xfe", "the password of the keystore is not UTF-8"},
		{spec.FormPKCS12, spec.ProfilePasswordless, "x", "the profile Passwordless goes without a password"},
	} {
		err := CheckKeystorePassword(c.form, c.profile, []byte(c.password))
		if !errors.Is(err, ErrPassword) || err.Error() != c.want {
			t.Errorf("%s %s %q: %v", c.form, c.profile, c.password, err)
		}
	}
}

// TestKeystoreDamaged cuts and changes keystores: that is an error each time, and
// one that is cut off is malformed, not of another password.
func TestKeystoreDamaged(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	for _, form := range []spec.Form{spec.FormPKCS12, spec.FormJKS} {
		data := encodeKeystore(t, form, m, KeystoreOptions{"a", spec.ProfileLegacyDES, []byte("changeit")})
		for n := 0; n < len(data); n += 37 {
			if _, err := ParseKeystore(form, data[:n], secret("changeit")); err == nil || errors.Is(err, ErrPassword) || errors.Is(err, ErrUnsupported) {
				t.Errorf("%s cut off at %d: %v", form, n, err)
			}
		}
		for i := len(data) / 2; i < len(data)/2+50; i += 7 {
			bad := bytes.Clone(data)
			bad[i] ^= 0x20
			if _, err := ParseKeystore(form, bad, secret("changeit")); err == nil {
				t.Errorf("%s changed at %d: no error", form, i)
			}
		}
	}
	if _, err := ParseKeystore(spec.FormJKS, []byte("\xce\xce\xce\xce\x00\x00\x00\x02"), nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("JCEKS: %v", err)
	}
	if _, err := ParseKeystore(spec.FormJKS, encodeKeystore(t, spec.FormPKCS12, m, KeystoreOptions{"a", spec.ProfileLegacyDES, nil}), nil); err == nil || !strings.Contains(err.Error(), "pkcs12") {
		t.Errorf("PKCS#12 for JKS: %v", err)
	}
}

// TestKeystoreLibraries compares with what others have written in Go.
func TestKeystoreLibraries(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	encoders := map[spec.Profile]*gopkcs12.Encoder{spec.ProfileModern2023: gopkcs12.Modern2023, spec.ProfileModern2026: gopkcs12.Modern2026,
		spec.ProfileLegacyDES: gopkcs12.LegacyDES, spec.ProfileLegacyRC2: gopkcs12.LegacyRC2, spec.ProfilePasswordless: gopkcs12.Passwordless}
	for profile, encoder := range encoders {
		for _, password := range []string{"changeit", utf8Password, ""} {
			if profile == spec.ProfilePasswordless && password != "" {
				continue
			}
			data := encodeKeystore(t, spec.FormPKCS12, m, KeystoreOptions{"a", profile, []byte(password)})
			key, leaf, rest, err := gopkcs12.DecodeChain(data, password)
			if err != nil {
				t.Errorf("%s %q: %v", profile, password, err)
				continue
			}
			theirs, err := newParsedKey(key)
			if err != nil || theirs.Fingerprint() != m.Key.Fingerprint() || !leaf.Equal(m.Chain[0]) || len(rest) != 2 {
				t.Errorf("%s %q: another key or chain: %v", profile, password, err)
			}
			data, err = encoder.Encode(m.Key.Signer(), m.Chain[0], []*x509.Certificate{m.Chain[1]}, password)
			if err != nil {
				t.Fatal(err)
			}
			store, err := ParseKeystore(spec.FormPKCS12, data, secret(password))
			if err != nil {
				t.Errorf("%s %q: %v", profile, password, err)
				continue
			}
			if e, err := store.Entry(); err != nil || e.Key.Fingerprint() != m.Key.Fingerprint() || len(e.Chain) != 2 || store.Profile != profile {
				t.Errorf("%s %q: read as %s: %v", profile, password, store.Profile, err)
			}
		}
	}

	data := encodeKeystore(t, spec.FormJKS, m, KeystoreOptions{Alias: "a", Password: []byte("changeit")})
	ks := keystore.New()
	if err := ks.Load(bytes.NewReader(data), []byte("changeit")); err != nil {
		t.Fatal(err)
	}
	entry, err := ks.GetPrivateKeyEntry("a", []byte("changeit"))
	if err != nil || len(entry.CertificateChain) != 2 || !ks.IsTrustedCertificateEntry("a-ca") {
		t.Fatalf("%d certificates, %v: %v", len(entry.CertificateChain), ks.Aliases(), err)
	}
	var out bytes.Buffer
	if err := ks.SetPrivateKeyEntry("b", entry, []byte("changeit")); err != nil {
		t.Fatal(err)
	}
	ks.DeleteEntry("a")
	if err := ks.Store(&out, []byte("changeit")); err != nil {
		t.Fatal(err)
	}
	store, err := ParseKeystore(spec.FormJKS, out.Bytes(), secret("changeit"))
	if err != nil || len(store.Keys) != 1 || store.Keys[0].Alias != "b" || store.Keys[0].Key.Fingerprint() != m.Key.Fingerprint() {
		t.Fatalf("%v", err)
	}
}

// requireTool returns a function that runs a program in a directory, as
// requireOpenSSL does.
func requireTool(t testing.TB, name string) func(dir string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed, and CI must run this test", name)
	}
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed", name)
	}
	return func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
}

// requireKeytool returns a function that runs Java's keytool.
func requireKeytool(t testing.TB) func(dir string, args ...string) string {
	keytool := requireTool(t, "keytool")
	return func(dir string, args ...string) string {
		t.Helper()
		return keytool(dir, append(args, "-J-XX:TieredStopAtLevel=1", "-J-Dfile.encoding=UTF-8")...)
	}
}

func writeFile(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeystoreOpenSSL(t *testing.T) {
	openssl := requireOpenSSL(t)
	m := keystoreMaterial(t, spec.RSA, 2048)
	dir := t.TempDir()
	for _, profile := range allProfiles {
		if profile == spec.ProfileModern2026 {
			continue // openssl reads PBMAC1 since 3.4; go-pkcs12 reads it above
		}
		for i, password := range []string{"changeit", utf8Password, ""} {
			if profile == spec.ProfilePasswordless && password != "" {
				continue
			}
			name := fmt.Sprintf("%s%d.p12", profile, i)
			writeFile(t, dir, name, encodeKeystore(t, spec.FormPKCS12, m, KeystoreOptions{"Web 1", profile, []byte(password)}))
			writeFile(t, dir, "pass", []byte(password+"\n"))
			args := []string{"pkcs12", "-in", name, "-passin", "file:pass", "-nodes"}
			if profile == spec.ProfileLegacyRC2 {
				args = append(args, "-legacy")
			}
			if profile == spec.ProfilePasswordless {
				args = append(args, "-nomacver")
			}
			out := openssl(dir, args...)
			if strings.Count(out, "BEGIN CERTIFICATE") != 3 || strings.Count(out, "friendlyName: Web 1") < 2 || !strings.Contains(out, "friendlyName: Web 1-ca") {
				t.Errorf("%s %q:\n%s", profile, password, out)
			}
			key, _, err := ParseKey([]byte(out), nil)
			if err != nil || key.Fingerprint() != m.Key.Fingerprint() {
				t.Errorf("%s %q: another key: %v", profile, password, err)
			}
		}
	}

	pem, err := m.Key.EncodePEM("", nil)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "all.pem", append(pem, EncodeCertificates(m.Chain[0], m.Chain[1], m.Anchor)...))
	for i, password := range []string{"changeit", utf8Password, ""} {
		writeFile(t, dir, "pass", []byte(password+"\n"))
		for profile, args := range map[spec.Profile][]string{
			spec.ProfileModern2023: nil,
			spec.ProfileLegacyRC2:  {"-legacy"},
			spec.ProfileLegacyDES:  {"-legacy", "-descert"},
		} {
			name := fmt.Sprintf("theirs%s%d.p12", profile, i)
			openssl(dir, append([]string{"pkcs12", "-export", "-in", "all.pem", "-name", "web", "-passout", "file:pass", "-out", name}, args...)...)
			store, err := ParseKeystore(spec.FormPKCS12, []byte(read(t, dir, name)), secret(password))
			if err != nil {
				t.Errorf("%s %q: %v", profile, password, err)
				continue
			}
			e, err := store.Entry()
			if err != nil || e.Alias != "web" || e.Key.Fingerprint() != m.Key.Fingerprint() || len(e.Chain) != 3 || store.Profile != profile {
				t.Errorf("%s %q: read as %s: %v", profile, password, store.Profile, err)
			}
		}
	}
}

func TestKeystoreKeytool(t *testing.T) {
	keytool := requireKeytool(t)
	dir := t.TempDir()
	for _, alg := range []struct {
		algorithm spec.Algorithm
		size      int
	}{{spec.RSA, 2048}, {spec.Ed25519, 0}} {
		m := keystoreMaterial(t, alg.algorithm, alg.size)
		for i, password := range []string{"changeit", utf8Password} {
			for _, o := range []struct {
				form    spec.Form
				profile spec.Profile
			}{{spec.FormJKS, ""}, {spec.FormPKCS12, spec.ProfileModern2023}, {spec.FormPKCS12, spec.ProfileLegacyDES}, {spec.FormPKCS12, spec.ProfileLegacyRC2}} {
				if alg.algorithm != spec.RSA && o.profile != spec.ProfileModern2023 && o.form != spec.FormJKS {
					continue
				}
				if o.form == spec.FormPKCS12 && password == utf8Password {
					continue // which Java cannot open: "Password is not ASCII"
				}
				name := fmt.Sprintf("%s%s%s%d", alg.algorithm, o.form, o.profile, i)
				writeFile(t, dir, name, encodeKeystore(t, o.form, m, KeystoreOptions{"Web", o.profile, []byte(password)}))
				writeFile(t, dir, "pass", []byte(password+"\n"))
				out := keytool(dir, "-list", "-v", "-keystore", name, "-storepass:file", "pass")
				chain := "Certificate chain length: 2" // JKS tells the root from the chain
				if o.form == spec.FormPKCS12 {
					chain = "Certificate chain length: 3"
				}
				for _, want := range []string{"contains 2 entries", "Alias name: web\n", "Alias name: web-ca\n", "PrivateKeyEntry", "trustedCertEntry", chain} {
					if !strings.Contains(out, want) {
						t.Errorf("%s: no %q in\n%s", name, want, out)
					}
				}
				// That Java gets at the key itself shows when it writes another keystore.
				kind := spec.FormPKCS12
				if password == utf8Password {
					kind = spec.FormJKS
				}
				keytool(dir, "-importkeystore", "-noprompt", "-srckeystore", name, "-srcstorepass:file", "pass",
					"-destkeystore", name+".new", "-deststoretype", string(kind), "-deststorepass:file", "pass")
				store, err := ParseKeystore(kind, []byte(read(t, dir, name+".new")), secret(password))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				e, err := store.Entry()
				if err != nil || e.Alias != "web" || e.Key.Fingerprint() != m.Key.Fingerprint() || len(store.Trusted) != 1 {
					t.Errorf("%s: as Java wrote it: %v", name, err)
				}
			}
		}
	}
}

// eachPKCS12 writes PKCS#12 files, of every profile that has been read for long,
// and calls f for each.
func eachPKCS12(t *testing.T, f func(dir, name, password string)) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	dir := t.TempDir()
	for _, profile := range []spec.Profile{spec.ProfileModern2023, spec.ProfileLegacyDES, spec.ProfileLegacyRC2} {
		for i, password := range []string{"changeit", utf8Password, ""} {
			name := fmt.Sprintf("%s%d", profile, i)
			writeFile(t, dir, name+".p12", encodeKeystore(t, spec.FormPKCS12, m, KeystoreOptions{name, profile, []byte(password)}))
			f(dir, name, password)
		}
	}
}

// TestKeystoreNSS imports as Firefox and Chromium do.
func TestKeystoreNSS(t *testing.T) {
	pk12util, certutil := requireTool(t, "pk12util"), requireTool(t, "certutil")
	eachPKCS12(t, func(dir, name, password string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		certutil(dir, "-N", "-d", "sql:"+name, "--empty-password")
		pk12util(dir, "-d", "sql:"+name, "-i", name+".p12", "-W", password)
		out := certutil(dir, "-L", "-d", "sql:"+name) + certutil(dir, "-K", "-d", "sql:"+name)
		for _, want := range []string{name + " ", name + "-ca ", " " + name + "\n", "u,u,u"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", name, want, out)
			}
		}
	})
}

func TestKeystoreGnuTLS(t *testing.T) {
	certtool := requireTool(t, "certtool")
	eachPKCS12(t, func(dir, name, password string) {
		out := certtool(dir, "--p12-info", "--inder", "--infile", name+".p12", "--password", password)
		if strings.Count(out, "BEGIN CERTIFICATE") != 3 || strings.Count(out, "PRIVATE KEY-----") != 2 || !strings.Contains(out, "Friendly name: "+name+"-ca") {
			t.Errorf("%s:\n%s", name, out)
		}
	})
}
