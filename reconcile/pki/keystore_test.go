package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
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
		{spec.FormPKCS12, spec.ProfileModern2023, "changeit\n# of web", "the password of the keystore is more than one line"},
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

// TestKeystoreNotUnderstood shows keystores that somebody has written so: they are
// not malformed, as their keys may be good.
func TestKeystoreNotUnderstood(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	strange := m
	strange.Chain = Chain{m.Chain[0], {Raw: []byte{0x30, 0x00}}} // a certificate that crypto/x509 refuses
	options := KeystoreOptions{"a", spec.ProfileModern2023, []byte("changeit")}
	good := encodeKeystore(t, spec.FormPKCS12, m, options)
	var file p12File
	var safe []byte
	if err := errors.Join(unmarshal(good, &file), unmarshal(file.AuthSafe.Content.Bytes, &safe)); err != nil {
		t.Fatal(err)
	}
	w := &p12Writer{}
	half := len(safe) / 2
	file.AuthSafe.Content = explicit(w.marshal(asn1.RawValue{Tag: asn1.TagOctetString, IsCompound: true,
		Bytes: append(w.marshal(safe[:half]), w.marshal(safe[half:])...)}))
	inBER := w.marshal(file)
	for _, c := range []struct {
		name string
		form spec.Form
		data []byte
	}{
		{"an octet string in parts, which is BER", spec.FormPKCS12, inBER},
		{"a length in more bytes than it needs", spec.FormPKCS12, append([]byte{0x30, 0x84, 0, 0}, good[2:]...)},
		{"trailing data", spec.FormPKCS12, append(bytes.Clone(good), '\n')},
		{"a strange certificate", spec.FormPKCS12, encodeKeystore(t, spec.FormPKCS12, strange, options)},
		{"a strange certificate", spec.FormJKS, encodeKeystore(t, spec.FormJKS, strange, options)},
		{"trailing data", spec.FormJKS, append(encodeKeystore(t, spec.FormJKS, m, options), '\n')},
	} {
		if _, err := ParseKeystore(c.form, c.data, secret("changeit")); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %s: %v", c.form, c.name, err)
		}
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

// TestKeystoreRC2 reads what others encrypt with RC2, which go-pkcs12 decrypts.
func TestKeystoreRC2(t *testing.T) {
	openssl := requireOpenSSL(t)
	m := keystoreMaterial(t, spec.ECDSA, 256)
	dir := t.TempDir()
	pem, err := m.Key.EncodePEM("", nil)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "all.pem", append(pem, EncodeCertificates(m.Chain[0], m.Chain[1], m.Anchor)...))
	export := func(password string, args ...string) []byte {
		writeFile(t, dir, "pass", []byte(password+"\n"))
		openssl(dir, append([]string{"pkcs12", "-export", "-legacy", "-in", "all.pem", "-name", "web", "-passout", "file:pass", "-out", "theirs"}, args...)...)
		return []byte(read(t, dir, "theirs"))
	}
	entry := func(t *testing.T, data []byte, profile spec.Profile, password string) {
		t.Helper()
		store, err := ParseKeystore(spec.FormPKCS12, data, secret(password))
		if err != nil {
			t.Fatal(err)
		}
		e, err := store.Entry()
		if err != nil || e.Alias != "web" || e.Key.Fingerprint() != m.Key.Fingerprint() || len(e.Chain) != 3 || store.Profile != profile {
			t.Errorf("%+v, profile %q: %v", e, store.Profile, err)
		}
	}
	for _, password := range []string{"changeit", utf8Password, ""} {
		entry(t, export(password), spec.ProfileLegacyRC2, password)
		entry(t, export(password, "-certpbe", "PBE-SHA1-RC2-128"), "", password)
		if _, err := ParseKeystore(spec.FormPKCS12, export(password), secret("other")); !errors.Is(err, ErrPassword) {
			t.Errorf("wrong password: %v", err)
		}
		if _, err := ParseKeystore(spec.FormPKCS12, export(password, "-nomac"), secret("other")); err == nil || !errors.Is(err, ErrPassword) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("wrong password, and no MAC: %v", err)
		}
	}
	entry(t, export("changeit", "-nomac"), "", "changeit")

	for name, data := range map[string][]byte{
		"a private key encrypted with RC2 is not supported": export("changeit", "-keypbe", "PBE-SHA1-RC2-40"),
		"2000001 iterations are more than":                  export("changeit", "-iter", "2000001", "-nomaciter"),
		"RC2 with a password beyond UCS-2 is not supported": export("changeit\U0001f511"),
	} {
		password := "changeit"
		if strings.Contains(name, "UCS-2") {
			password += "\U0001f511"
		}
		if _, err := ParseKeystore(spec.FormPKCS12, data, secret(password)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q: %v", name, err)
		}
	}
	_, err = EncodeKeystore(spec.FormPKCS12, m, KeystoreOptions{"web", spec.ProfileLegacyRC2, []byte("changeit\U0001f511")})
	if !errors.Is(err, ErrPassword) || !strings.Contains(err.Error(), "beyond U+FFFF") {
		t.Errorf("written with a password beyond UCS-2: %v", err)
	}

	trust, err := gopkcs12.LegacyRC2.EncodeTrustStore([]*x509.Certificate{m.Anchor}, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	if store, err := ParseKeystore(spec.FormPKCS12, trust, secret("changeit")); err != nil || len(store.Trusted) != 1 || !store.Trusted[0].Cert.Equal(m.Anchor) {
		t.Errorf("a truststore: %+v: %v", store, err)
	}
}
