package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

var keyKinds = []struct {
	algorithm spec.Algorithm
	size      int
	encodings []spec.Encoding
}{
	{spec.RSA, 2048, []spec.Encoding{"", spec.PKCS8, spec.PKCS1}},
	{spec.ECDSA, 256, []spec.Encoding{"", spec.PKCS8, spec.SEC1}},
	{spec.ECDSA, 384, []spec.Encoding{spec.SEC1}},
	{spec.ECDSA, 521, []spec.Encoding{spec.PKCS8}},
	{spec.Ed25519, 0, []spec.Encoding{"", spec.PKCS8}},
}

func password(s string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(s), nil }
}

func TestKeyRoundTrip(t *testing.T) {
	openssl := requireOpenSSL(t)
	for _, kind := range keyKinds {
		k := testKey(t, kind.algorithm, kind.size)
		if k.Algorithm() != kind.algorithm || k.Size() != kind.size {
			t.Errorf("generated %s %d, want %s %d", k.Algorithm(), k.Size(), kind.algorithm, kind.size)
		}
		for _, enc := range kind.encodings {
			t.Run(fmt.Sprintf("%s/%d/%s", kind.algorithm, kind.size, enc), func(t *testing.T) {
				data, err := k.EncodePEM(enc, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, info, err := ParseKey(data, func() ([]byte, error) { panic("asked for a password") })
				if err != nil {
					t.Fatal(err)
				}
				if enc == "" {
					enc = spec.PKCS8
				}
				want := KeyInfo{kind.algorithm, kind.size, enc, false, k.Fingerprint()}
				if info != want || got.Fingerprint() != k.Fingerprint() || !equalPublic(got.Public(), k.Public()) {
					t.Errorf("got %+v, want %+v", info, want)
				}
				dir := t.TempDir()
				write(t, dir, "k", data)
				openssl(dir, "pkey", "-in", "k", "-noout", "-check")
			})
		}
	}
}

func TestEncodeEncryptedIsReadByOpenSSL(t *testing.T) {
	openssl := requireOpenSSL(t)
	for _, k := range []*Key{testKey(t, spec.RSA, 2048), testKey(t, spec.Ed25519, 0)} {
		data, err := k.EncodePEM("", []byte("pa ss"))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write(t, dir, "k", data)
		plain := openssl(dir, "pkey", "-in", "k", "-passin", "pass:pa ss")
		want, _ := k.EncodePEM("", nil)
		if plain != string(want) {
			t.Errorf("%s: openssl decrypted another key", k)
		}
		out := openssl(dir, "asn1parse", "-in", "k")
		for _, part := range []string{"PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", ":0927C0"} {
			if !strings.Contains(out, part) {
				t.Errorf("no %s in\n%s", part, out)
			}
		}
		if got, info, err := ParseKey(data, password("pa ss")); err != nil || !info.Encrypted || got.Fingerprint() != k.Fingerprint() {
			t.Errorf("%s: %v", k, err)
		}
	}
}

func TestParseKeyEncryptedByOpenSSL(t *testing.T) {
	openssl := requireOpenSSL(t)
	dir := t.TempDir()
	rsaKey, ecKey, edKey := testKey(t, spec.RSA, 2048), testKey(t, spec.ECDSA, 256), testKey(t, spec.Ed25519, 0)
	for name, k := range map[string]*Key{"rsa": rsaKey, "ec": ecKey, "ed": edKey} {
		data, err := k.EncodePEM("", nil)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, data)
	}
	type test struct {
		key  *Key
		enc  spec.Encoding
		args []string
	}
	tests := []test{}
	for _, prf := range []string{"hmacWithSHA1", "hmacWithSHA224", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"} {
		tests = append(tests, test{ecKey, spec.PKCS8, []string{"pkcs8", "-topk8", "-in", "ec", "-v2", "aes256", "-v2prf", prf}})
	}
	for _, cipher := range []string{"aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "des-ede3-cbc"} {
		tests = append(tests,
			test{edKey, spec.PKCS8, []string{"pkcs8", "-topk8", "-in", "ed", "-v2", cipher}},
			test{rsaKey, spec.PKCS1, []string{"rsa", "-in", "rsa", "-traditional", "-" + strings.TrimSuffix(cipher, "-cbc")}},
			test{ecKey, spec.SEC1, []string{"ec", "-in", "ec", "-" + strings.TrimSuffix(cipher, "-cbc")}})
	}
	for _, test := range tests {
		for i, arg := range test.args {
			switch arg {
			case "-aes-128", "-aes-192", "-aes-256":
				test.args[i] = strings.Replace(arg, "aes-", "aes", 1)
			case "-des-ede3":
				test.args[i] = "-des3"
			}
		}
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			openssl(dir, append(test.args, "-passout", "pass:secret", "-out", "enc")...)
			data, err := os.ReadFile(filepath.Join(dir, "enc"))
			if err != nil {
				t.Fatal(err)
			}
			k, info, err := ParseKey(data, password("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if !info.Encrypted || info.Encoding != test.enc || k.Fingerprint() != test.key.Fingerprint() {
				t.Errorf("got %+v, want %s of %s", info, test.enc, test.key.Fingerprint())
			}
			if _, _, err := ParseKey(data, password("wrong")); !errors.Is(err, ErrPassword) {
				t.Errorf("wrong password: %v", err)
			}
			if _, info, err := ParseKey(data, nil); !errors.Is(err, ErrPassword) || !info.Encrypted || info.Encoding != test.enc {
				t.Errorf("no password: %v, %+v", err, info)
			}
			failure := errors.New("no such file")
			if _, _, err := ParseKey(data, func() ([]byte, error) { return nil, failure }); !errors.Is(err, ErrPassword) || !errors.Is(err, failure) {
				t.Errorf("failing password: %v", err)
			}
		})
	}

	t.Run("scrypt", func(t *testing.T) {
		openssl(dir, "pkcs8", "-topk8", "-in", "ec", "-scrypt", "-passout", "pass:secret", "-out", "enc")
		data, _ := os.ReadFile(filepath.Join(dir, "enc"))
		if _, _, err := ParseKey(data, password("secret")); err == nil || !strings.Contains(err.Error(), "scrypt is not supported") {
			t.Error(err)
		}
	})
	t.Run("many iterations", func(t *testing.T) {
		openssl(dir, "pkcs8", "-topk8", "-in", "ec", "-iter", "5000", "-passout", "pass:secret", "-out", "enc")
		data, _ := os.ReadFile(filepath.Join(dir, "enc"))
		block, _ := pem.Decode(data)
		if _, err := decryptPKCS8(block.Bytes, []byte("secret"), 4999); err == nil || !strings.Contains(err.Error(), "5000 PBKDF2 iterations") {
			t.Error(err)
		}
		if _, err := decryptPKCS8(block.Bytes, []byte("secret"), 5000); err != nil {
			t.Error(err)
		}
	})
	t.Run("parameters before the key", func(t *testing.T) {
		openssl(dir, "ecparam", "-name", "prime256v1", "-genkey", "-out", "enc")
		data, _ := os.ReadFile(filepath.Join(dir, "enc"))
		if _, info, err := ParseKey(data, nil); err != nil || info.Encoding != spec.SEC1 {
			t.Error(err, info)
		}
	})
}

func TestParseKeyErrors(t *testing.T) {
	k := testKey(t, spec.ECDSA, 256)
	data, _ := k.EncodePEM("", nil)
	for _, test := range []struct{ name, data, want string }{
		{"empty", "", "no private key found"},
		{"text", "hello\n", "no private key found"},
		{"two keys", string(data) + string(data), "more than one private key"},
		{"cut off", string(data[:len(data)/2]), "incomplete PEM block"},
		{"openssh", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", `type "OPENSSH PRIVATE KEY" is not supported`},
		{"garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "malformed PKCS8 private key"},
		{"garbage, encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "malformed encrypted private key"},
	} {
		if _, _, err := ParseKey([]byte(test.data), password("x")); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

func TestEncodePEMErrors(t *testing.T) {
	ec, rsaKey := testKey(t, spec.ECDSA, 256), testKey(t, spec.RSA, 2048)
	for _, test := range []struct {
		key      *Key
		enc      spec.Encoding
		password []byte
		want     string
	}{
		{ec, spec.PKCS1, nil, "a private key of ECDSA cannot be encoded as PKCS1"},
		{rsaKey, spec.SEC1, nil, "a private key of RSA cannot be encoded as SEC1"},
		{ec, "PEM", nil, `encoding "PEM" is not supported`},
		{ec, spec.SEC1, []byte("x"), "cannot be encrypted"},
		{ec, spec.PKCS8, []byte{}, "password for the private key is empty"},
	} {
		if _, err := test.key.EncodePEM(test.enc, test.password); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	for _, kind := range []struct {
		a spec.Algorithm
		n int
	}{{spec.RSA, 1024}, {spec.RSA, 100000}, {spec.ECDSA, 224}, {"DSA", 1024}} {
		if _, err := GenerateKey(kind.a, kind.n); err == nil {
			t.Errorf("made a key of %s %d", kind.a, kind.n)
		}
	}
}

// TestRedaction: what holds a key shows no part of it, however it is printed.
func TestRedaction(t *testing.T) {
	for _, kind := range keyKinds {
		c := leafSpec("a.example.com")
		c.PrivateKey = spec.PrivateKey{Algorithm: kind.algorithm, Size: kind.size}
		leaf := issue(t, c, nil)
		k := leaf.key
		var log bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(&log, nil))
		type hidden struct{ key Key } // fmt calls no methods of unexported fields
		for _, v := range []any{k, *k, &hidden{*k}, hidden{*k}, []*Key{k}, map[string]Key{"x": *k},
			Material{Key: k, Chain: Chain{leaf.cert}}, &Material{Key: k}, testRequest(t, c, k), struct{ M Material }{Material{Key: k}}} {
			for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%e", "%w"} {
				refuseSecrets(t, k, fmt.Sprintf(format, v))
			}
			logger.Info("x", "v", v)
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		}
		refuseSecrets(t, k, log.String())
		if out, err := json.Marshal(Material{Key: k}); err == nil {
			t.Errorf("marshalled: %s", out)
		}
		if want := fmt.Sprintf("[%s %d private key]", kind.algorithm, kind.size); kind.size > 0 && fmt.Sprintf("%#v", k) != want {
			t.Errorf("got %#v, want %s", k, want)
		}
	}
	var none *Key
	_ = fmt.Sprintf("%v %+v %s", none, Material{}, Key{})
}

func refuseSecrets(t *testing.T, k *Key, out string) {
	t.Helper()
	var secrets [][]byte
	switch s := k.Signer().(type) {
	case *ecdsa.PrivateKey:
		raw, err := s.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, raw)
	case ed25519.PrivateKey:
		secrets = append(secrets, s.Seed())
	case *rsa.PrivateKey:
		secrets = append(secrets, s.D.Bytes(), s.Primes[0].Bytes())
		if strings.Contains(out, s.Primes[0].String()) || strings.Contains(out, s.D.String()) {
			t.Fatalf("decimal key in %.200q", out)
		}
	}
	for _, s := range secrets {
		list := strings.Trim(fmt.Sprint(s[:8]), "[]")
		for _, form := range []string{string(s), hex.EncodeToString(s), strings.ToUpper(hex.EncodeToString(s)),
			base64.StdEncoding.EncodeToString(s), list, strings.ReplaceAll(list, " ", ", ")} {
			if strings.Contains(out, form) {
				t.Fatalf("key bytes in %.200q", out)
			}
		}
	}
}
