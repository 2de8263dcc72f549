package main

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

const bobSpec = `
issuers:
  clients: {kubernetes: {signerName: kubernetes.io/kube-apiserver-client, approve: true}}
certificates:
  bob: {issuer: clients, commonName: bob, profile: client, duration: 24h, files: {fullChain: bob.crt, privateKey: bob.key, ca: ca.crt}}
`

// A spec that names no cluster goes where kubectl would.
func testDefaultCluster(t *testing.T, c cluster) {
	p := newProject(t, "none", bobSpec)
	t.Setenv("HOME", p.dir)
	t.Setenv("KUBECONFIG", "")
	p.want(1, apply, "there is no kubeconfig", "hint: set KUBECONFIG")
	t.Setenv("KUBECONFIG", c.Kubeconfig("admin"))
	p.want(0, []string{"apply", "--yes", "--wait"})
	p.want(0, plan)
	p.pair("bob.crt", "bob.key")
	c.clear()
}

// A context of a kubeconfig that leads to several clusters is the one that is asked.
func testContext(t *testing.T, c cluster) {
	p := newProject(t, "none", bobSpec)
	text, err := os.ReadFile(c.Kubeconfig("admin"))
	if err != nil {
		t.Fatal(err)
	}
	// JSON is YAML, and easier to write.
	var admin struct {
		Clusters, Users []any
		Contexts        []struct{ Context any }
	}
	tree, err := spec.ReadYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(tree); err == nil {
		err = json.Unmarshal(text, &admin)
	}
	if err != nil || len(admin.Contexts) != 1 {
		t.Fatalf("%v: %+v", err, admin.Contexts)
	}
	nowhere := map[string]any{"name": "nowhere", "cluster": map[string]any{"server": "https://127.0.0.1:1"}}
	both, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Config", "current-context": "away",
		"clusters": append(admin.Clusters, nowhere), "users": admin.Users,
		"contexts": []any{
			map[string]any{"name": "here", "context": admin.Contexts[0].Context},
			map[string]any{"name": "away", "context": map[string]any{"cluster": "nowhere"}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	p.write("both.conf", string(both))
	p.edit("kubeconfig: \"none\"", "kubeconfig: both.conf")
	p.edit("{signerName", "{cluster: kubetest, signerName")
	p.want(1, apply, "cannot be reached at https://127.0.0.1:1")
	p.edit("kubeconfig: both.conf", "kubeconfig: both.conf, context: elsewhere")
	p.want(1, apply, `cluster "kubetest"`, `"elsewhere"`)
	p.edit("context: elsewhere", "context: here")
	p.want(0, []string{"apply", "--yes", "--wait"})
	p.want(0, plan)
	p.pair("bob.crt", "bob.key")
	c.clear()
}

// In a pod it is the service account that asks. The pod is a mount namespace with
// the files that the kubelet would put there.
func testInCluster(t *testing.T, c cluster) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has mount namespaces")
	}
	c.must("POST", "/api/v1/namespaces/default/serviceaccounts", `{"metadata": {"name": "certsync"}}`)
	const user = "system:serviceaccount:default:certsync"
	c.rules(user, rule(csrs, "create"), rule(csrs, "get"), rule(csrs, "watch"), rule(csrs+"/approval", "update"),
		rule("signers", "approve", "kubernetes.io/kube-apiserver-client"))
	var answer struct{ Status struct{ Token string } }
	if err := json.Unmarshal(c.must("POST", "/api/v1/namespaces/default/serviceaccounts/certsync/token",
		`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}`), &answer); err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(c.Dir, "pki", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}

	p := newProject(t, "none", bobSpec)
	p.write("token", answer.Status.Token)
	p.write("ca.pem", string(ca))
	inPod := func(args ...string) (string, error) {
		const mount = `set -e
mount -t tmpfs none /run
test -e /var/run || ln -s /run /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp ca.pem /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
cp token /var/run/secrets/kubernetes.io/serviceaccount/token
exec certsync "$@"`
		cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--map-root-user", "--mount", "sh", "-c", mount, "sh"}, args...)...)
		cmd.Dir = p.dir
		cmd.Env = append(os.Environ(), "KUBECONFIG=", "HOME="+p.dir,
			"KUBERNETES_SERVICE_HOST="+server.Hostname(), "KUBERNETES_SERVICE_PORT="+server.Port())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := inPod("apply", "--yes", "--wait"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if have := c.csrs(); len(have) != 1 || have[0].Spec.Username != user { // it may not remove it
		t.Errorf("the requests are %+v", have)
	}
	p.pair("bob.crt", "bob.key")
	if string(p.read("ca.crt")) != string(ca) {
		t.Error("the trust anchor is not the cluster's CA")
	}
	if out, err := inPod("plan", "--detailed-exitcode"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	p.write("token", "stale")
	if out, err := inPod("apply", "--yes", "--replace", "bob"); err == nil || !strings.Contains(out, "does not accept the credentials") {
		t.Errorf("with a bad token: %v\n%s", err, out)
	}
	c.clear()
}
