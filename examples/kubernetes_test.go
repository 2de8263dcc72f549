package examples

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"

	"github.com/certsync/certsync/backends/kubernetes/kubetest"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// TestKubernetesCSR runs the example on a control plane, with the rights that its
// manifests give and no others.
func TestKubernetesCSR(t *testing.T) {
	c := controlPlane{kubetest.Start(t), t}
	nobody, certsyncs := c.user("nobody"), c.user("certsync")

	base := c.rights(nobody)
	c.create("kubernetes-csr/rbac-request.yaml")
	request := []string{
		"certificates.k8s.io certificatesigningrequests [] create",
		"certificates.k8s.io certificatesigningrequests [] get",
		"certificates.k8s.io certificatesigningrequests [] watch",
	}
	c.wantRights(certsyncs, base, request)
	for _, may := range []struct {
		verb, resource, subresource, name string
		allowed                           bool
	}{
		{"create", "certificatesigningrequests", "", "", true},
		{"get", "certificatesigningrequests", "", "x", true},
		{"list", "certificatesigningrequests", "", "", false},
		{"delete", "certificatesigningrequests", "", "x", false},
		{"update", "certificatesigningrequests", "approval", "x", false},
		{"update", "certificatesigningrequests", "status", "x", false},
		{"approve", "signers", "", "kubernetes.io/kube-apiserver-client", false},
		{"sign", "signers", "", "kubernetes.io/kube-apiserver-client", false},
	} {
		c.wantAccess(certsyncs, may.verb, may.resource, may.subresource, may.name, may.allowed)
	}

	dir := t.TempDir()
	text := strings.NewReplacer("https://kubernetes.example.com:6443", c.URL).Replace(read(t, "kubernetes-csr/certsync.yaml"))
	write(t, dir, "certsync.yaml", text)
	signer := t.TempDir()
	write(t, signer, "certsync.yaml", "apiVersion: certsync/v1\nissuers: {signer: {ca: {commonName: serving, files: {certificate: ca.crt, privateKey: ca.key}}}}\n")
	mustRun(t, signer, certsync, "apply", "--yes")
	write(t, dir, "serving-ca.crt", read(t, filepath.Join(signer, "ca.crt")))
	env := "KUBECONFIG=" + certsyncs
	run := func(code int, args ...string) string {
		t.Helper()
		out, err := command(dir, "env", append([]string{env, certsync}, args...)...)
		if have := exitCode(err); have != code {
			t.Fatalf("certsync %v: exit code %d, want %d\n%s", args, have, code, out)
		}
		return out
	}
	out := run(3, "apply", "--yes")
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^    kubectl certificate approve (\S+)$`).FindAllStringSubmatch(out[strings.Index(out, "Plan:"):], -1) {
		names = append(names, m[1])
	}
	if len(names) != 3 {
		t.Fatalf("what is to be approved: %v\n%s", names, out)
	}
	// An administrator does what certsync printed, or what that comes to.
	kubectl, err := exec.LookPath("kubectl")
	if err == nil {
		mustRun(t, dir, kubectl, append([]string{"--kubeconfig", c.Kubeconfig("admin"), "certificate", "approve"}, names...)...)
	}
	for _, name := range names {
		if err != nil {
			c.approve(name)
		}
		if strings.Contains(name, "my-svc") {
			c.sign(name, signer)
		}
	}
	run(0, "apply", "--yes", "--wait=1m")
	run(0, "plan", "--detailed-exitcode")
	run(0, "verify")
	write(t, c.Dir, "jane.conf", read(t, filepath.Join(dir, "jane.kubeconfig")))
	review := c.call("jane", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", map[string]any{})
	if !bytes.Contains(review, []byte(`"username":"jane","groups":["dev",`)) {
		t.Errorf("jane is %s", review)
	}
	need(t, "openssl")
	for _, name := range []string{"-verify_hostname my-svc.my-namespace.svc.cluster.local", "-verify_hostname my-pod.my-namespace.pod.cluster.local", "-verify_ip 192.0.2.24", "-verify_ip 10.0.34.2"} {
		args := append([]string{"verify", "-purpose", "sslserver", "-CAfile", "my-svc/ca.crt"}, strings.Fields(name)...)
		mustRun(t, dir, "openssl", append(args, "my-svc/tls.crt")...)
	}

	// With the rights to approve it needs nobody.
	c.create("kubernetes-csr/rbac-request-and-approve.yaml")
	c.wantRights(certsyncs, base, append(request,
		"certificates.k8s.io certificatesigningrequests/approval [] update",
		"certificates.k8s.io signers [kubernetes.io/kube-apiserver-client] approve"))
	c.wantAccess(certsyncs, "approve", "signers", "", "kubernetes.io/kube-apiserver-client", true)
	c.wantAccess(certsyncs, "approve", "signers", "", "kubernetes.io/kube-apiserver-client-kubelet", false)
	c.wantAccess(certsyncs, "approve", "signers", "", "example.com/serving", false)
	write(t, dir, "certsync.yaml", strings.Replace(text, "kube-apiserver-client}", "kube-apiserver-client, approve: true}", 1))
	run(0, "apply", "--yes", "--replace", "jane")
	run(0, "plan", "--detailed-exitcode")
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// controlPlane is one, and what the test does there.
type controlPlane struct {
	*kubetest.ControlPlane
	t *testing.T
}

// user returns a kubeconfig for a user of that name, who is in no group.
func (c controlPlane) user(name string) string {
	c.t.Helper()
	write(c.t, c.Dir, "user-"+name+".yaml", fmt.Sprintf("apiVersion: certsync/v1\ncertificates:\n  user-%s: {issuer: ca, profile: client, commonName: %s, "+
		"files: {certificate: pki/%s.crt, privateKey: pki/%s.key}, kubeconfig: {path: %s.conf, server: %q}}\n", name, name, name, name, name, c.URL))
	if out, err := c.Certsync(c.t.Context(), "apply", "--yes"); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return c.Kubeconfig(name)
}

// call calls the API as the user of a kubeconfig.
func (c controlPlane) call(kubeconfig, method, path string, body any) []byte {
	c.t.Helper()
	client, err := c.Client(strings.TrimSuffix(filepath.Base(kubeconfig), ".conf"))
	if err != nil {
		c.t.Fatal(err)
	}
	data, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+path, bytes.NewReader(data))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if answer.StatusCode/100 != 2 {
		c.t.Fatalf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return text
}

// create makes the roles and bindings of a manifest.
func (c controlPlane) create(manifest string) {
	c.t.Helper()
	dec := yaml.NewDecoder(strings.NewReader(read(c.t, manifest)))
	for {
		var object map[string]any
		if err := dec.Decode(&object); err == io.EOF { //nolint:errorlint // as yaml documents it
			return
		} else if err != nil {
			c.t.Fatal(err)
		}
		c.call("super-admin", "POST", "/apis/rbac.authorization.k8s.io/v1/"+strings.ToLower(fmt.Sprint(object["kind"]))+"s", object)
	}
}

// rights lists all that a user may do, as kubectl auth can-i --list does.
func (c controlPlane) rights(kubeconfig string) []string {
	c.t.Helper()
	var review struct {
		Status struct {
			Incomplete    bool
			ResourceRules []struct {
				Verbs, APIGroups, Resources, ResourceNames []string
			}
			NonResourceRules []struct{ Verbs, NonResourceURLs []string }
		}
	}
	text := c.call(kubeconfig, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", map[string]any{"spec": map[string]any{"namespace": "default"}})
	if err := json.Unmarshal(text, &review); err != nil {
		c.t.Fatal(err)
	}
	var list []string
	for _, r := range review.Status.ResourceRules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					list = append(list, fmt.Sprintf("%s %s %v %s", group, resource, r.ResourceNames, verb))
				}
			}
		}
	}
	for _, r := range review.Status.NonResourceRules {
		list = append(list, fmt.Sprintf("%v %v", r.NonResourceURLs, r.Verbs))
	}
	sort.Strings(list)
	return slices.Compact(list)
}

// wantRights waits until a user has exactly the rights that everybody has, and more.
func (c controlPlane) wantRights(kubeconfig string, base, more []string) {
	c.t.Helper()
	want := append(slices.Clone(base), more...)
	sort.Strings(want)
	var have []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if have = c.rights(kubeconfig); slices.Equal(have, want) {
			return
		}
	}
	c.t.Fatalf("the rights are\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
}

// wantAccess asks as kubectl auth can-i does.
func (c controlPlane) wantAccess(kubeconfig, verb, resource, subresource, name string, want bool) {
	c.t.Helper()
	var review struct{ Status struct{ Allowed bool } }
	text := c.call(kubeconfig, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", map[string]any{"spec": map[string]any{
		"resourceAttributes": map[string]any{"group": "certificates.k8s.io", "verb": verb, "resource": resource, "subresource": subresource, "name": name}}})
	if err := json.Unmarshal(text, &review); err != nil {
		c.t.Fatal(err)
	}
	if review.Status.Allowed != want {
		c.t.Errorf("%s %s/%s %s: %t, want %t", verb, resource, subresource, name, review.Status.Allowed, want)
	}
}

const csrPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests/"

func (c controlPlane) request(name string) *certificates.CertificateSigningRequest {
	c.t.Helper()
	csr := &certificates.CertificateSigningRequest{}
	if err := json.Unmarshal(c.call("super-admin", "GET", csrPath+name, nil), csr); err != nil {
		c.t.Fatal(err)
	}
	return csr
}

func (c controlPlane) approve(name string) {
	c.t.Helper()
	csr := c.request(name)
	csr.Status.Conditions = append(csr.Status.Conditions, certificates.CertificateSigningRequestCondition{
		Type: certificates.CertificateApproved, Status: core.ConditionTrue, Reason: "Test"})
	c.call("super-admin", "PUT", csrPath+name+"/approval", csr)
}

// sign is the custom signer: it answers a request with the CA in a directory.
func (c controlPlane) sign(name, dir string) {
	c.t.Helper()
	csr := c.request(name)
	ca, err := pki.ParseCertificates([]byte(read(c.t, filepath.Join(dir, "ca.crt"))))
	if err != nil {
		c.t.Fatal(err)
	}
	key, _, err := pki.ParseKey([]byte(read(c.t, filepath.Join(dir, "ca.key"))), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	block, _ := pem.Decode(csr.Spec.Request)
	r := pki.Request{CSR: block.Bytes, Duration: time.Duration(*csr.Spec.ExpirationSeconds) * time.Second, Now: time.Now()}
	for _, u := range csr.Spec.Usages {
		r.Usages = append(r.Usages, spec.Usage(u))
	}
	var cert *x509.Certificate
	if cert, err = pki.Sign(r, ca[0], key.Signer()); err != nil {
		c.t.Fatal(err)
	}
	csr.Status.Certificate = pki.EncodeCertificates(cert)
	c.call("super-admin", "PUT", csrPath+name+"/status", csr)
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
