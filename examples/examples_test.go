// Package examples tests that every example does what it says.
package examples

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// certsync is the program, built once for all tests.
var certsync string

// keystorePassword is the password that examples take from the environment.
const keystorePassword = "changeit"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "certsync-examples-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	certsync = filepath.Join(dir, "certsync")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", certsync, "../cmd/certsync").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build certsync: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv("KEYSTORE_PASSWORD", keystorePassword); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// need skips the test without a program that it compares with; in CI it fails.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("%s is not installed", p)
		}
	}
}

// command runs a program in dir and returns what it wrote, all of it.
func command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustRun(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// TestEveryExample checks each spec against the schema that editors use, and
// applies it twice in a copy: the second time nothing may be left to do.
func TestEveryExample(t *testing.T) {
	schema := compileSchema(t)
	specs, err := filepath.Glob("*/certsync.yaml")
	if err != nil || len(specs) == 0 {
		t.Fatalf("found no examples: %v", err)
	}
	for _, spec := range specs {
		t.Run(filepath.Dir(spec), func(t *testing.T) {
			text, err := os.ReadFile(spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(asJSON(t, text)); err != nil {
				t.Errorf("%s does not fit the schema: %v", spec, err)
			}
			dir := copyOf(t, spec)
			out := mustRun(t, dir, certsync, "validate")
			if strings.Contains(out, "warning") {
				t.Errorf("validate warns:\n%s", out)
			}
			if needsCluster(spec) {
				return // its own test applies it
			}
			mustRun(t, dir, certsync, "apply", "--yes")
			if out, err := command(dir, certsync, "plan", "--detailed-exitcode"); err != nil {
				t.Errorf("the second plan is not empty: %v\n%s", err, out)
			}
		})
	}
}

// needsCluster tells whether an example issues nothing by itself.
func needsCluster(spec string) bool {
	return slices.Contains([]string{"kubernetes-csr", "kubernetes-secrets"}, filepath.Dir(spec))
}

func TestEveryExampleHasATest(t *testing.T) {
	tested := map[string]bool{"quickstart": true, "mtls-services": true, "kubernetes-pki": true,
		"kubernetes-csr": true, "kubernetes-secrets": true, "nginx": true, "haproxy": true, "postgres": true, "redis": true, "keystores": true}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !tested[e.Name()] {
			t.Errorf("%s has no test of its own here", e.Name())
		}
	}
}

// compileSchema returns the schema that certsync prints.
func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(mustRun(t, ".", certsync, "schema")))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("spec.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("spec.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON turns YAML into what a JSON decoder would have given.
func asJSON(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// asMyself has the files of a spec belong to who runs the test, and not to the user
// of the service that the variable user names.
func asMyself(spec string) string {
	return serviceUser.ReplaceAllString(spec, fmt.Sprintf("  user: %d", os.Getuid()))
}

var serviceUser = regexp.MustCompile(`(?m)^  user: \w+`)

// copyOf copies a spec to a directory of its own.
func copyOf(t *testing.T, spec string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(asMyself(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestQuickstart runs what make quickstart runs.
func TestQuickstart(t *testing.T) {
	need(t, "bash", "openssl", "curl")
	out := mustRun(t, ".", "quickstart/run.sh", certsync, filepath.Join(t.TempDir(), "quickstart"))
	for _, want := range []string{"accepted", "refused", "3 unchanged", "same inode"} {
		if !strings.Contains(out, want) {
			t.Errorf("the quickstart does not say %q:\n%s", want, out)
		}
	}
}

// TestMTLSServices has openssl judge what the example makes: each service for
// both ends of a connection and under its own name only.
func TestMTLSServices(t *testing.T) {
	need(t, "openssl")
	dir := copyOf(t, "mtls-services/certsync.yaml")
	mustRun(t, dir, certsync, "apply", "--yes")
	services := []string{"accounts", "billing", "catalog", "checkout", "gateway", "inventory", "mail", "search", "shipping", "users"}
	for _, s := range services {
		cert, host := "pki/"+s+"/tls.crt", s+".services.example.com"
		verify := []string{"verify", "-x509_strict", "-CAfile", "pki/" + s + "/ca.crt", "-untrusted", cert}
		mustRun(t, dir, "openssl", append(verify, "-purpose", "sslserver", "-verify_hostname", host, cert)...)
		mustRun(t, dir, "openssl", append(verify, "-purpose", "sslclient", cert)...)
		if out, err := command(dir, "openssl", append(verify, "-verify_hostname", "other.services.example.com", cert)...); err == nil {
			t.Errorf("%s passes for a service that it is not:\n%s", cert, out)
		}
		// One key, and the certificate that belongs to it.
		ofCert := mustRun(t, dir, "openssl", "x509", "-in", cert, "-noout", "-pubkey")
		if ofKey := mustRun(t, dir, "openssl", "pkey", "-in", "pki/"+s+"/tls.key", "-pubout"); ofKey != ofCert {
			t.Errorf("%s: the key is not that of the certificate", s)
		}
		if info, err := os.Stat(filepath.Join(dir, "pki", s, "tls.key")); err != nil {
			t.Error(err)
		} else if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s: the key has mode %o", s, mode)
		}
	}

	operator := []string{"verify", "-x509_strict", "-CAfile", "pki/operator-ca.crt", "-untrusted", "pki/operator.crt"}
	mustRun(t, dir, "openssl", append(operator, "-purpose", "sslclient", "pki/operator.crt")...)
	if out, err := command(dir, "openssl", append(operator, "-purpose", "sslserver", "pki/operator.crt")...); err == nil {
		t.Errorf("the client passes for a server:\n%s", out)
	}

	ca := mustRun(t, dir, "openssl", "x509", "-in", "pki/services-ca.crt", "-noout", "-text")
	for _, want := range []string{"CA:TRUE, pathlen:0", "DNS:services.example.com"} {
		if !strings.Contains(ca, want) {
			t.Errorf("the intermediate CA lacks %q:\n%s", want, ca)
		}
	}

	// The intermediate's limits hold against the spec, before anything is issued.
	out, err := command(dir, certsync, "--set", "domain=elsewhere.example", "validate")
	if err != nil {
		t.Fatalf("the domain is a variable, and moves with its constraints: %v\n%s", err, out)
	}
}

// TestSystemTrust adds the root to a copy of the system's trust, and takes it out
// again: openssl trusts what is there.
func TestSystemTrust(t *testing.T) {
	need(t, "openssl", "update-ca-certificates")
	dir := copyOf(t, "quickstart/certsync.yaml")
	mustRun(t, dir, certsync, "apply", "--yes")
	for _, d := range []string{"certs", "local", "etc", "hooks"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{"conf": "", "local/my-root.crt": read(t, filepath.Join(dir, "pki/rootCA.crt"))} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	update := []string{"--certsconf", dir + "/conf", "--certsdir", dir + "/certs", "--localcertsdir", dir + "/local",
		"--etccertsdir", dir + "/etc", "--hooksdir", dir + "/hooks"}
	verify := []string{"verify", "-no-CAfile", "-CApath", "etc", "-purpose", "sslserver", "pki/k8s-apiserver.crt"}
	if out := mustRun(t, dir, "update-ca-certificates", update...); !strings.Contains(out, "1 added") {
		t.Errorf("not added:\n%s", out)
	}
	mustRun(t, dir, "openssl", verify...)
	if err := os.Remove(filepath.Join(dir, "local/my-root.crt")); err != nil {
		t.Fatal(err)
	}
	mustRun(t, dir, "update-ca-certificates", append(update, "--fresh")...)
	if out, err := command(dir, "openssl", verify...); err == nil {
		t.Errorf("still trusted:\n%s", out)
	}
}

// TestNameConstraintsHold states a service outside the intermediate's domain.
func TestNameConstraintsHold(t *testing.T) {
	dir := copyOf(t, "mtls-services/certsync.yaml")
	spec := filepath.Join(dir, "certsync.yaml")
	text, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "  intruder: {profile: server, dnsNames: [intruder.example.org], directory: pki/intruder}\n"...)
	if err := os.WriteFile(spec, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := command(dir, certsync, "apply", "--yes")
	if err == nil || !strings.Contains(out, `"intruder.example.org" is outside the name constraints of issuer "services"`) {
		t.Errorf("a name outside the constraints: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "pki")); err == nil {
		t.Error("a spec that is wrong made files")
	}
}

// TestKubernetesPKI compares the files with those that kubeadm init makes, and has
// openssl judge them. backends/kubernetes/kubetest runs a control plane on them.
func TestKubernetesPKI(t *testing.T) {
	need(t, "openssl")
	dir := copyOf(t, "kubernetes-pki/certsync.yaml")
	mustRun(t, dir, certsync, "apply", "--yes")

	const kubeadm = "apiserver apiserver-etcd-client apiserver-kubelet-client ca etcd/ca etcd/healthcheck-client " +
		"etcd/peer etcd/server front-proxy-ca front-proxy-client sa"
	const kubeconfigs = "admin super-admin controller-manager scheduler kubelet"
	want := []string{"certsync.yaml", "kubelet/pki/kubelet-client-current.pem"}
	for _, name := range strings.Fields(kubeadm) {
		want = append(want, "pki/"+name+".crt", "pki/"+name+".key")
	}
	for _, name := range strings.Fields(kubeconfigs) {
		want = append(want, name+".conf")
	}
	var got []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err == nil && d.Name() == ".certsync":
			return filepath.SkipDir
		case err == nil && !d.IsDir():
			path, err = filepath.Rel(dir, path)
			got = append(got, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the files are\n%s\nwant\n%s", got, want)
	}

	for name, server := range map[string]string{
		"admin": "https://kube.example.com:6443", "super-admin": "https://kube.example.com:6443",
		"controller-manager": "https://192.0.2.10:6443", "scheduler": "https://192.0.2.10:6443", "kubelet": "https://192.0.2.10:6443",
	} {
		unpackKubeconfig(t, dir, name, server)
	}
	for _, test := range []struct {
		ca, names, subject string
		client, server     bool
	}{
		{"ca", "apiserver", "CN=kube-apiserver", false, true},
		{"ca", "apiserver-kubelet-client", "CN=kube-apiserver-kubelet-client", true, false},
		{"ca", "admin", "O=kubeadm:cluster-admins, CN=kubernetes-admin", true, false},
		{"ca", "super-admin", "O=system:masters, CN=kubernetes-super-admin", true, false},
		{"ca", "controller-manager", "CN=system:kube-controller-manager", true, false},
		{"ca", "scheduler", "CN=system:kube-scheduler", true, false},
		{"ca", "kubelet", "O=system:nodes, CN=system:node:control-plane-1", true, false},
		{"front-proxy-ca", "front-proxy-client", "CN=front-proxy-client", true, false},
		{"etcd/ca", "etcd/server etcd/peer", "CN=control-plane-1", true, true},
		{"etcd/ca", "etcd/healthcheck-client", "CN=kube-etcd-healthcheck-client", true, false},
		{"etcd/ca", "apiserver-etcd-client", "CN=kube-apiserver-etcd-client", true, false},
	} {
		for _, name := range strings.Fields(test.names) {
			cert := "pki/" + name + ".crt"
			subject := mustRun(t, dir, "openssl", "x509", "-in", cert, "-noout", "-subject", "-nameopt", "sep_comma_plus_space")
			if got := strings.TrimSpace(subject); got != "subject="+test.subject {
				t.Errorf("%s: %s, want %s", name, got, test.subject)
			}
			for purpose, want := range map[string]bool{"sslclient": test.client, "sslserver": test.server} {
				out, err := command(dir, "openssl", "verify", "-x509_strict", "-CAfile", "pki/"+test.ca+".crt", "-purpose", purpose, cert)
				if (err == nil) != want {
					t.Errorf("%s for %s: %v\n%s", name, purpose, err, out)
				}
			}
		}
	}
	for _, name := range []string{"-verify_hostname kubernetes.default.svc.cluster.local", "-verify_hostname control-plane-1", "-verify_ip 10.96.0.1", "-verify_ip 192.0.2.10"} {
		args := append([]string{"verify", "-CAfile", "pki/ca.crt"}, strings.Fields(name)...)
		mustRun(t, dir, "openssl", append(args, "pki/apiserver.crt")...)
	}

	// kubelet.conf names files, and stays when they change.
	conf := read(t, filepath.Join(dir, "kubelet.conf"))
	// The key that tokens are signed with stays when all certificates are renewed.
	before := read(t, filepath.Join(dir, "pki/sa.key"))
	mustRun(t, dir, certsync, "apply", "--yes", "--replace", "certificates.*")
	if read(t, filepath.Join(dir, "pki/sa.key")) != before {
		t.Error("the key of the service accounts changed")
	}
	if read(t, filepath.Join(dir, "kubelet.conf")) != conf {
		t.Error("kubelet.conf changed")
	}
	public := mustRun(t, dir, "openssl", "x509", "-in", "pki/sa.crt", "-noout", "-pubkey")
	if mustRun(t, dir, "openssl", "pkey", "-in", "pki/sa.key", "-pubout") != public {
		t.Error("sa.crt does not hold the public key of sa.key")
	}
}

// unpackKubeconfig writes the certificate of the kubeconfig NAME.conf to pki/NAME.crt,
// after it has compared the rest with what kubeadm writes.
func unpackKubeconfig(t *testing.T, dir, name, server string) {
	t.Helper()
	var k struct {
		CurrentContext string `yaml:"current-context"`
		Clusters       []struct {
			Name    string
			Cluster struct {
				Server string
				CA     string `yaml:"certificate-authority-data"`
			}
		}
		Contexts []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
		Users []struct {
			Name string
			User struct {
				CertificateData string `yaml:"client-certificate-data"`
				KeyData         string `yaml:"client-key-data"`
				Certificate     string `yaml:"client-certificate"`
				Key             string `yaml:"client-key"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(dir, name+".conf"))), &k); err != nil {
		t.Fatal(err)
	}
	decode := func(text string) string {
		t.Helper()
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	user, cluster := k.Users[0], k.Clusters[0]
	if want := user.Name + "@kubernetes"; k.CurrentContext != want || k.Contexts[0].Name != want ||
		k.Contexts[0].Context.Cluster != "kubernetes" || k.Contexts[0].Context.User != user.Name ||
		cluster.Name != "kubernetes" || cluster.Cluster.Server != server {
		t.Errorf("%s.conf is %+v", name, k)
	}
	if decode(cluster.Cluster.CA) != read(t, filepath.Join(dir, "pki/ca.crt")) {
		t.Errorf("%s.conf has another CA", name)
	}
	cert, key := decode(user.User.CertificateData), decode(user.User.KeyData)
	if cert == "" && user.User.Certificate == user.User.Key {
		cert = read(t, user.User.Certificate)
		key = cert
	}
	for file, text := range map[string]string{name + ".crt": cert, name + ".key": key} {
		if err := os.WriteFile(filepath.Join(dir, "pki", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	subject := mustRun(t, dir, "openssl", "x509", "-in", "pki/"+name+".crt", "-noout", "-subject", "-nameopt", "multiline,-space_eq")
	if !strings.Contains(subject, "="+user.Name+"\n") {
		t.Errorf("%s.conf calls its user %q:\n%s", name, user.Name, subject)
	}
	public := mustRun(t, dir, "openssl", "x509", "-in", "pki/"+name+".crt", "-noout", "-pubkey")
	if mustRun(t, dir, "openssl", "pkey", "-in", "pki/"+name+".key", "-pubout") != public {
		t.Errorf("%s.conf has another key", name)
	}
}
