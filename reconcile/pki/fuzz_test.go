package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/certsync/certsync/spec"
)

// seeds adds to a fuzz target one of everything that the decoders read.
func seeds(f *testing.F) {
	root := issue(f, caSpec("root"), nil)
	leaf := issue(f, leafSpec("a.example.com"), root)
	f.Add([]byte{})
	f.Add(EncodeCertificates(leaf.cert, root.cert))
	f.Add(leaf.cert.Raw)
	f.Add(testRequest(f, leafSpec("a"), leaf.key).CSR)
	for _, enc := range []spec.Encoding{spec.PKCS8, spec.SEC1} {
		data, err := leaf.key.EncodePEM(enc, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, EncodeCertificates(leaf.cert)...))
	}
	for _, k := range []*Key{leaf.key, testKey(f, spec.Ed25519, 0)} {
		plain, err := x509.MarshalPKCS8PrivateKey(k.Signer())
		if err != nil {
			f.Fatal(err)
		}
		encrypted, err := encryptPKCS8(plain, []byte("secret"), 10)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
		f.Add(encrypted)
		f.Add(pem.EncodeToMemory(&pem.Block{Type: pemEncryptedPKCS8, Bytes: encrypted}))
	}
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: testNow, ReasonCode: 1}},
		ExtraExtensions: []pkix.Extension{{Id: oidDistributionPoint, Critical: true,
			Value: der(derSequence, der(0xa0, der(0xa0, der(0x86, []byte("http://x")))), der(0x81, []byte{0xff}))}},
	}, root.cert, root.key.Signer())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(crl)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: crl}))
}

func FuzzParseKey(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		k, info, err := ParseKey(data, nil)
		if err != nil {
			return
		}
		again, err := k.EncodePEM("", nil)
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := ParseKey(again, nil)
		if err != nil || other.Fingerprint() != info.Fingerprint {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseCertificates(data)
		if err != nil {
			return
		}
		for _, cert := range list {
			id := IdentityOf(cert)
			if !id.Equal(&id) || Compare(&id, &id) != nil {
				t.Fatal("differs from itself")
			}
			_, _ = Verify(cert, VerifyOptions{Trust: list, Untrusted: list, At: testNow, Purpose: PurposeServer, Name: "a.example.com"})
		}
		again, err := ParseCertificates(EncodeCertificates(list...))
		if err != nil || len(again) != len(list) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

func FuzzInspect(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := Inspect(data, nil)
		if err == nil && len(items) == 0 {
			t.Fatal("nothing, and no error")
		}
		if _, err := json.Marshal(items); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecryptPKCS8(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = decryptPKCS8(data, []byte("secret"), 3000)
	})
}

// fuzzKeystore seeds a target for one form of keystores.
func fuzzKeystore(f *testing.F, form spec.Form, profiles ...spec.Profile) {
	seeds(f)
	m := keystoreMaterial(f, spec.ECDSA, 256)
	for _, profile := range profiles {
		password := []byte("changeit")
		if profile == spec.ProfilePasswordless {
			password = nil
		}
		f.Add(encodeKeystore(f, form, m, KeystoreOptions{"a", profile, password}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, password := range []string{"changeit", ""} {
			store, err := parseKeystore(form, data, secret(password), 10_000)
			if err != nil {
				continue
			}
			e, err := store.Entry()
			if err != nil || len(e.Chain) == 0 || !e.Key.Matches(e.Chain[0]) {
				continue
			}
			m := Material{Key: e.Key, Chain: e.Chain, Anchor: e.Chain[0]}
			again, err := EncodeKeystore(form, m, KeystoreOptions{e.Alias, spec.ProfileModern2023, []byte("changeit")})
			if err != nil {
				t.Fatal(err)
			}
			store, err = ParseKeystore(form, again, secret("changeit"))
			if err != nil || len(store.Keys) != 1 || store.Keys[0].Key.Fingerprint() != e.Key.Fingerprint() {
				t.Fatalf("written and read again: %v", err)
			}
		}
	})
}

func FuzzParsePKCS12(f *testing.F) { fuzzKeystore(f, spec.FormPKCS12, allProfiles...) }

func FuzzParseJKS(f *testing.F) { fuzzKeystore(f, spec.FormJKS, "") }

func FuzzParseKubeconfig(f *testing.F) {
	seeds(f)
	m := keystoreMaterial(f, spec.ECDSA, 256)
	k := &spec.Kubeconfig{Server: "https://a", Cluster: "c", User: "u", Context: "x", CA: "/ca", Certificate: "/crt", PrivateKey: "/key"}
	f.Add(encodeKubeconfig(f, spec.FormKubeconfig, m, k))
	f.Add(encodeKubeconfig(f, spec.FormKubeconfigPaths, m, k))
	f.Add(kubeadmConfig(f, m, true))
	f.Add([]byte("{kind: Config, users: [{name: a, user: {token: t}}], contexts: [{name: x}], clusters: [{name: c}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := ParseKubeconfig(data)
		if err != nil {
			return
		}
		_, _ = Inspect(data, nil)
		u := read.User(read.CurrentContext)
		if u == nil {
			return
		}
		key, _, err := u.Key()
		chain, certErr := u.Chain()
		if err != nil || certErr != nil || len(read.Clusters) == 0 || !utf8.ValidString(u.Name) {
			return
		}
		// What is written of it says the same.
		c := read.Clusters[0]
		k := &spec.Kubeconfig{Server: c.Server, ProxyURL: c.ProxyURL, Cluster: c.Name, User: u.Name, Context: read.CurrentContext}
		m := Material{Key: key, Chain: chain}
		again, err := EncodeKubeconfig(spec.FormKubeconfig, m, chain[:1], k, "")
		if err != nil {
			t.Fatal(err)
		}
		read, err = ParseKubeconfig(again)
		if err != nil || len(read.Users) != 1 || read.Users[0].Name != u.Name || read.Clusters[0].Server != c.Server {
			t.Fatalf("written and read again: %v\n%q", err, u.Name)
		}
		if k, _, err := read.User("").Key(); err != nil || k.Fingerprint() != key.Fingerprint() {
			t.Fatalf("another key: %v", err)
		}
	})
}

func FuzzCRLs(f *testing.F) {
	seeds(f)
	root := forge(f, "root", nil, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		crls, err := ParseCRLs(data)
		if err != nil {
			return
		}
		for _, crl := range crls {
			_ = usableExtensions(crl, root.cert)
			for _, e := range crl.Extensions {
				_ = inScope(e.Value, root.cert)
			}
		}
	})
}
