package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

func kubeconfigSettings() *spec.Kubeconfig {
	return &spec.Kubeconfig{Server: "https://10.0.0.1:6443", Cluster: "kubernetes", User: "kubernetes-admin", Context: "kubernetes-admin@kubernetes"}
}

func encodeKubeconfig(t testing.TB, form spec.Form, m Material, k *spec.Kubeconfig) []byte {
	t.Helper()
	data, err := EncodeKubeconfig(form, m, []*x509.Certificate{m.Anchor}, k, "")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestKubeconfigRoundTrip writes and reads settings that YAML could take for
// something else.
func TestKubeconfigRoundTrip(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	for _, name := range []string{
		"kubernetes", "system:node:a", "yes", "NULL", "1.5", "0x1f", "~", "a: b", "a #b", "- a", "[a]", "{a", "*a", "&a", "!a", "%a", "@a", "`a", "'a'", `"a"`, `a\b`,
		"a:", "ä€😀", " a ", "\u2028", "\u0085", "\ufeff", "\ufffe", "\uffff", "\U0001ffff", "a,b", "2001-01-01", ".inf", "|", ">", "?", "<<", "=",
	} {
		k := kubeconfigSettings()
		k.Cluster, k.User, k.Context = name, name, name
		k.TLSServerName, k.ProxyURL, k.Namespace = "kubernetes.default", "socks5://localhost:1", "dev"
		data := encodeKubeconfig(t, spec.FormKubeconfig, m, k)
		read, err := ParseKubeconfig(data)
		if err != nil {
			t.Fatalf("%q: %v\n%s", name, err, data)
		}
		want := KubeCluster{Name: name, Server: k.Server, TLSServerName: k.TLSServerName, ProxyURL: k.ProxyURL, CA: []*x509.Certificate{m.Anchor}}
		if len(read.Clusters) != 1 || !reflect.DeepEqual(read.Clusters[0], want) {
			t.Errorf("%q: cluster %+v", name, read.Clusters)
		}
		if len(read.Contexts) != 1 || !reflect.DeepEqual(read.Contexts[0], KubeContext{Name: name, Cluster: name, User: name, Namespace: "dev"}) || read.CurrentContext != name {
			t.Errorf("%q: context %+v", name, read.Contexts)
		}
		u := read.User(name)
		if u == nil || u.Name != name || len(u.Other)+len(read.Other) > 0 {
			t.Fatalf("%q: user %+v, other %v", name, u, read.Other)
		}
		key, _, err := u.Key()
		if err != nil || !key.Matches(m.Chain[0]) {
			t.Errorf("%q: key %v", name, err)
		}
		if chain, err := u.Chain(); err != nil || len(chain) != len(m.Chain) || !chain[0].Equal(m.Chain[0]) {
			t.Errorf("%q: chain %v", name, err)
		}
		if !bytes.Equal(data, encodeKubeconfig(t, spec.FormKubeconfig, m, k)) {
			t.Errorf("%q: other bytes the second time", name)
		}
	}
}

// TestKubeconfigOpenSSL has openssl judge what is in one.
func TestKubeconfigOpenSSL(t *testing.T) {
	openssl := requireTool(t, "openssl")
	m := keystoreMaterial(t, spec.RSA, 2048)
	data := encodeKubeconfig(t, spec.FormKubeconfig, m, kubeconfigSettings())
	dir := t.TempDir()
	for field, name := range map[string]string{"client-certificate-data": "crt", "client-key-data": "key", "certificate-authority-data": "ca"} {
		_, rest, ok := strings.Cut(string(data), field+": ")
		if !ok {
			t.Fatalf("no %s", field)
		}
		text, _, _ := strings.Cut(rest, "\n")
		pem, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, name, pem)
	}
	openssl(dir, "verify", "-no_check_time", "-CAfile", "ca", "-untrusted", "crt", "crt")
	if openssl(dir, "x509", "-in", "crt", "-noout", "-pubkey") != openssl(dir, "pkey", "-in", "key", "-pubout") {
		t.Error("the key is not that of the certificate")
	}
}

// kubeadmConfig is as kubeadm writes it, in YAML or, as some tools do, in JSON.
func kubeadmConfig(t testing.TB, m Material, asJSON bool) []byte {
	key, err := m.Key.EncodePEM(spec.SEC1, nil)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	if asJSON {
		text, err := json.MarshalIndent(map[string]any{
			"apiVersion": "v1", "kind": "Config", "preferences": map[string]any{}, "current-context": "c",
			"clusters": []any{map[string]any{"name": "k", "cluster": map[string]any{"server": "https://a", "insecure-skip-tls-verify": false,
				"certificate-authority-data": EncodeCertificates(m.Anchor)}}},
			"users": []any{map[string]any{"name": "kubernetes-admin", "user": map[string]any{
				"client-certificate-data": EncodeCertificates(m.Chain...), "client-key-data": key}}},
			"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "k", "user": "kubernetes-admin"}}},
		}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	return fmt.Appendf(nil, `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: %s
    server: https://a
  name: k
contexts:
- context:
    cluster: k
    user: kubernetes-admin
  name: c
current-context: c
kind: Config
preferences: {}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: %s
    client-key-data: %s
`, b64(EncodeCertificates(m.Anchor)), b64(EncodeCertificates(m.Chain...)), b64(key))
}

func TestKubeconfigOfOthers(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	for _, asJSON := range []bool{false, true} {
		data := kubeadmConfig(t, m, asJSON)
		if !IsKubeconfig(data) {
			t.Error("is not recognized")
		}
		k, err := ParseKubeconfig(data)
		if err != nil {
			t.Fatal(err)
		}
		key, info, err := k.User("").Key()
		if err != nil || !key.Matches(m.Chain[0]) || info.Encoding != spec.SEC1 {
			t.Errorf("key: %+v, %v", info, err)
		}
		if len(k.Other)+len(k.Clusters[0].Other)+len(k.Users[0].Other) > 0 || !k.Clusters[0].CA[0].Equal(m.Anchor) {
			t.Errorf("%+v", k)
		}
		items, err := Inspect(data, nil)
		if err != nil || len(items) != 2+len(m.Chain)+1 || items[0].Type != ItemKubeconfig {
			t.Fatalf("%v: %+v", err, items)
		}
		if last := items[len(items)-1]; last.Of != "user kubernetes-admin" || last.PrivateKey.PublicKey.Fingerprint != key.Fingerprint() {
			t.Errorf("%+v", last)
		}
	}
	k, err := ParseKubeconfig([]byte(`{kind: Config, extensions: [{name: x}], users: [
		{name: a, user: {token: t, exec: {command: x}, password: "", as-groups: []}},
		{name: b, user: {client-certificate: b.crt, client-key: /b.key}, extra: 1}],
		clusters: [{name: c, cluster: {server: "https://me:secret@h/", proxy-url: "http://p:secret@h", insecure-skip-tls-verify: true}}],
		contexts: [{name: x, context: {user: b, extensions: [1]}}], current-context: x}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", k); strings.Contains(got, "secret") {
		t.Error(got)
	}
	if got := fmt.Sprint(k.Other, k.Users[0].Other, k.Users[1].Other, k.Clusters[0].Other, k.Contexts[0].Other); got !=
		"[extensions] [exec token] [extra beside user] [insecure-skip-tls-verify] [extensions]" {
		t.Error(got)
	}
	if k.User("").Name != "b" || k.User("a").Name != "a" || k.User("none").Name != "b" {
		t.Error("another user")
	}
}

// TestKubeconfigDamaged sees that nothing that is wrong shows what is secret.
func TestKubeconfigDamaged(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	const secret = "c2VjcmV0c2VjcmV0c2VjcmV0"
	for text, want := range map[string]string{
		"":                          "it is empty",
		"# nothing":                 "it is empty",
		"a: " + secret + ": b":      "not valid YAML in line 1",
		"a: 1\n---\nb: " + secret:   "YAML of more than one document is not read",
		"{a: 1, a: " + secret + "}": "YAML with a key that is there twice, in line 1, is not read",
		"? [" + secret + "]\n: 1":   "a key in line 1 is no name",
		strings.Repeat("# "+secret+"\n", 200_000): "YAML of more than 4 MiB is not read",
		secret:                                  "it is no mapping",
		"kind: Secret":                          `its kind is "Secret"`,
		"{}":                                    `its kind is ""`,
		"{kind: Config, apiVersion: v2}":        `the version "v2"`,
		"{kind: Config, users: " + secret + "}": "users is no list",
		"{kind: Config, users: [" + secret + "]}":                                                                          "users[0] is no mapping",
		"{kind: Config, users: [{user: " + secret + "}]}":                                                                  "users[0].user is no mapping",
		"{kind: Config, users: [{user: {client-key-data: [" + secret + "]}}]}":                                             "client-key-data of users[0].user is no string",
		"kind: &a [" + strings.Repeat("*a, ", 3) + "]":                                                                     "",
		"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [" + strings.Repeat("*a,", 200) + "]\nc: [" + strings.Repeat("*b,", 200) + "]": "YAML of more than 100000 values is not read",
	} {
		_, err := ParseKubeconfig([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
		if strings.HasSuffix(want, "is not read") != errors.Is(err, ErrUnsupported) && want != "" {
			t.Errorf("%.60q: unsupported is %t", text, errors.Is(err, ErrUnsupported))
		}
	}
	for _, c := range []struct{ key, cert, keyErr, certErr string }{
		{secret + "!", secret + "!", "client-key-data is not base64", "client-certificate-data is not base64"},
		{secret, secret, "", "no certificate found"},
		{"", "", ErrNoKey.Error(), ErrNoCertificate.Error()},
	} {
		k, err := ParseKubeconfig(fmt.Appendf(nil, "{kind: Config, users: [{name: a, user: {client-key-data: %q, client-certificate-data: %q}}]}", c.key, c.cert))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = k.User("").Key()
		if err == nil || !strings.Contains(err.Error(), c.keyErr) || strings.Contains(err.Error(), secret) {
			t.Errorf("key: %v", err)
		}
		if _, err = k.User("").Chain(); err == nil || !strings.Contains(err.Error(), c.certErr) {
			t.Errorf("certificate: %v", err)
		}
	}
	encrypted, err := m.Key.EncodePEM("", []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKubeconfig(fmt.Appendf(nil, "{kind: Config, users: [{name: a, user: {client-key-data: %s}}]}", base64.StdEncoding.EncodeToString(encrypted)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.User("a").Key(); !errors.Is(err, ErrPassword) {
		t.Errorf("encrypted: %v", err)
	}
	for _, data := range []string{"kind: Config\nclusters: [", "{kind: Config, clusters: []}", `{"clusters":[],"kind":"Config"}`} {
		if _, err := Inspect([]byte(data), nil); !IsKubeconfig([]byte(data)) || err != nil && !strings.Contains(err.Error(), "malformed kubeconfig: not valid YAML in line 2") {
			t.Errorf("%q is not taken for a kubeconfig: %v", data, err)
		}
	}
	for _, data := range []string{"kind: Secret\nclusters: []\n# Config", "-----BEGIN CERTIFICATE-----", "web:\n  kind: Config\n  clusters: []"} {
		if IsKubeconfig([]byte(data)) {
			t.Errorf("%q is taken for a kubeconfig", data)
		}
	}
}

// TestKubeconfigLacks encodes what is not all there.
func TestKubeconfigLacks(t *testing.T) {
	m := keystoreMaterial(t, spec.ECDSA, 256)
	ca := []*x509.Certificate{m.Anchor}
	for want, encode := range map[string]func() ([]byte, error){
		"no private key": func() ([]byte, error) {
			return EncodeKubeconfig(spec.FormKubeconfig, Material{Chain: m.Chain}, ca, kubeconfigSettings(), "")
		},
		"no certificate": func() ([]byte, error) {
			return EncodeKubeconfig(spec.FormKubeconfig, Material{Key: m.Key}, ca, kubeconfigSettings(), "")
		},
		"the trust anchor is not known": func() ([]byte, error) {
			return EncodeKubeconfig(spec.FormKubeconfig, m, nil, kubeconfigSettings(), "")
		},
	} {
		if _, err := encode(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	k := kubeconfigSettings()
	k.CA, k.Certificate, k.PrivateKey = "/ca.crt", "/a.pem", "/a.pem"
	data, err := EncodeKubeconfig(spec.FormKubeconfigPaths, Material{}, nil, k, "")
	if err != nil || !strings.Contains(string(data), "client-key: /a.pem\n") || strings.Contains(string(data), "-data") {
		t.Errorf("%v\n%s", err, data)
	}
}
