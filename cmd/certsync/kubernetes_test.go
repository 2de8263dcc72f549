package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certsync/certsync/backends/kubernetes/kubetest"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// TestKubernetes has certsync ask a real control plane for certificates. The tests
// share it: it takes ten seconds to start.
func TestKubernetes(t *testing.T) {
	c := kubetest.Start(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c cluster)
	}{
		{"a client is let in", testClient},
		{"a server has a certificate of a custom signer", testServer},
		{"requests are approved and denied by name", testDecide},
		{"a signer fails", testSignerFails},
		{"approve: true takes one run", testApproves},
		{"a request is removed", testRemoved},
		{"another object has the name", testForeign},
		{"a kubelet is approved by the cluster", testKubelet},
		{"a kubelet serves", testKubeletServing},
		{"each missing right is told", testForbidden},
		{"a key that is kept is renewed", testKeptKey},
		{"who is not let in is told", testUnauthorized},
		{"what is no apiserver is told", testUnreachable},
		{"the default cluster is that of kubectl", testDefaultCluster},
		{"a context leads to the cluster", testContext},
		{"a pod asks by its service account", testInCluster},
		{"killed at each call", testKilledAtCalls},
		{"each call fails", testFailedCalls},
		{"what passes is tried again", testRetried},
		{"an interrupt leaves it for later", testInterrupt},
		{"the signer is down", testSignerDown},
		{"the apiserver restarts", testRestart},
		{"a lifetime is clamped", testClamped},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, cluster{c, t}) })
	}
}

// cluster is a control plane, and what the tests do there without certsync.
type cluster struct {
	*kubetest.ControlPlane
	t *testing.T
}

const csrPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests"

// api calls the apiserver as the super-administrator.
func (c cluster) api(method, path string, body any) (int, []byte) {
	c.t.Helper()
	client, err := c.Client("super-admin")
	if err != nil {
		c.t.Fatal(err)
	}
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		if data, err = json.Marshal(b); err != nil {
			c.t.Fatal(err)
		}
	}
	return c.doAs(client, method, path, string(data))
}

// must is api for what has to succeed.
func (c cluster) must(method, path string, body any) []byte {
	c.t.Helper()
	status, text := c.api(method, path, body)
	if status/100 != 2 {
		c.t.Fatalf("%s %s: %d: %s", method, path, status, text)
	}
	return text
}

func (c cluster) csr(name string) *certificates.CertificateSigningRequest {
	c.t.Helper()
	var csr certificates.CertificateSigningRequest
	if err := json.Unmarshal(c.must("GET", csrPath+"/"+name, nil), &csr); err != nil {
		c.t.Fatal(err)
	}
	return &csr
}

func (c cluster) csrs() []certificates.CertificateSigningRequest {
	c.t.Helper()
	var list certificates.CertificateSigningRequestList
	if err := json.Unmarshal(c.must("GET", csrPath, nil), &list); err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

// condition sets a condition, by way of approval or status.
func (c cluster) condition(name, subresource string, kind certificates.RequestConditionType) {
	c.t.Helper()
	csr := c.csr(name)
	csr.Status.Conditions = append(csr.Status.Conditions, certificates.CertificateSigningRequestCondition{
		Type: kind, Status: core.ConditionTrue, Reason: "Test", Message: "by the test", LastUpdateTime: metav1.Now()})
	c.must("PUT", csrPath+"/"+name+"/"+subresource, csr)
}

func (c cluster) approve(name string) {
	c.t.Helper()
	c.condition(name, "approval", certificates.CertificateApproved)
}

// waitIssued waits until the signer has signed.
func (c cluster) waitIssued(name string) {
	c.t.Helper()
	eventually(c.t, func() error {
		if csr := c.csr(name); len(csr.Status.Certificate) == 0 {
			return fmt.Errorf("%s is not signed: %+v", name, csr.Status)
		}
		return nil
	})
}

// clear removes all requests.
func (c cluster) clear() {
	c.t.Helper()
	c.must("DELETE", csrPath, nil)
}

// eventually repeats what the cluster does some time after it was told to.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// project is a spec in a directory of its own, and certsync working on it.
type project struct {
	t    *testing.T
	dir  string
	skip time.Duration // that certsync's clock is ahead
}

func newProject(t *testing.T, kubeconfig, text string) *project {
	p := &project{t: t, dir: t.TempDir()}
	p.write("certsync.yaml", "apiVersion: certsync/v1\nclusters: {kubetest: {kubeconfig: \""+kubeconfig+"\"}}\n"+text)
	return p
}

func (p *project) path(name string) string { return filepath.Join(p.dir, name) }

func (p *project) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) read(name string) []byte {
	p.t.Helper()
	data, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

func (p *project) edit(from, to string) {
	p.t.Helper()
	text := string(p.read("certsync.yaml"))
	if !strings.Contains(text, from) {
		p.t.Fatalf("no %q in the spec", from)
	}
	p.write("certsync.yaml", strings.ReplaceAll(text, from, to))
}

// certsync runs it, and returns all that it wrote, and the exit code.
func (p *project) certsync(args ...string) (string, int) {
	var out bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, now: func() time.Time { return time.Now().Add(p.skip) }}
	cmd := a.command()
	cmd.SetArgs(append([]string{"-f", p.path("certsync.yaml")}, args...))
	code := a.finish(cmd.ExecuteContext(p.t.Context()))
	return out.String(), code
}

// want runs certsync, which has to end with that exit code and say all of these.
func (p *project) want(code int, args []string, says ...string) string {
	p.t.Helper()
	out, have := p.certsync(args...)
	if have != code {
		p.t.Fatalf("certsync %v: exit code %d, want %d:\n%s", args, have, code, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			p.t.Fatalf("certsync %v does not say %q:\n%s", args, s, out)
		}
	}
	return out
}

var (
	apply = []string{"apply", "--yes"}
	plan  = []string{"plan", "--detailed-exitcode"}
)

// request returns the name of the pending request of a certificate.
func (p *project) request(name string) string {
	p.t.Helper()
	out, _ := p.certsync("plan", "-o", "json", name)
	var v struct {
		Items []struct {
			Name    string
			Request *struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &v); err != nil {
		p.t.Fatal(err)
	}
	for _, it := range v.Items {
		if it.Name == name && it.Request != nil {
			return it.Request.Name
		}
	}
	p.t.Fatalf("%s has no request: %s", name, out)
	return ""
}

// pair checks that key and certificate belong together, and returns them.
func (p *project) pair(cert, key string) tls.Certificate {
	p.t.Helper()
	pair, err := tls.X509KeyPair(p.read(cert), p.read(key))
	if err != nil {
		p.t.Fatal(err)
	}
	if info, err := os.Stat(p.path(key)); err != nil || info.Mode().Perm() != 0o600 {
		p.t.Fatalf("%s: %v %v", key, info.Mode(), err)
	}
	return pair
}

const janeSpec = `
issuers:
  clients: {kubernetes: {cluster: kubetest, signerName: kubernetes.io/kube-apiserver-client}}
certificates:
  jane:
    issuer: clients
    commonName: jane
    subject: {organizations: [dev]}
    profile: client
    duration: 24h
    directory: jane
`

func testClient(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), janeSpec+"    kubeconfig: {path: jane.kubeconfig, server: "+c.URL+"}\n")
	p.want(2, plan, "1 to create")
	p.want(3, apply, "waits for approval")
	name := p.request("jane")
	command := "kubectl --kubeconfig " + c.Kubeconfig("admin") + " certificate approve " + name
	p.want(2, plan, "wait", "Pending", command, "1 waiting")
	p.want(0, []string{"status"}, "pending", command)
	p.want(3, apply, command, "1 waiting")
	p.want(3, append(apply, "-o", "json"), `"approve": "`+command+`"`, `"request": "`+name+`"`)
	if csr := c.csr(name); *csr.Spec.ExpirationSeconds != 24*3600 || csr.Spec.SignerName != certificates.KubeAPIServerClientSignerName ||
		fmt.Sprint(csr.Spec.Usages) != "[digital signature client auth]" || csr.Spec.Username != "kubernetes-admin" {
		t.Errorf("the request is %+v", csr.Spec)
	}
	c.approve(name)
	c.waitIssued(name)
	p.want(2, plan, name+" is issued", "1 to create")
	p.want(0, apply, "1 done")
	p.want(0, plan)
	p.want(0, []string{"verify"})
	if status, _ := c.api("GET", csrPath+"/"+name, nil); status != http.StatusNotFound {
		t.Errorf("the request that is answered is still there: %d", status)
	}

	// The certificate is a user of the apiserver, with what their group may.
	pair := p.pair("jane/tls.crt", "jane/tls.key")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.read("jane/ca.crt"))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}}
	review := c.as(client, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
		`{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}`, http.StatusCreated)
	if !bytes.Contains(review, []byte(`"username":"jane"`)) || !bytes.Contains(review, []byte(`"dev"`)) {
		t.Errorf("who jane is: %s", review)
	}
	c.as(client, "GET", "/api/v1/namespaces/default/pods", "", http.StatusForbidden)
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/"
	c.must("POST", rbac+"roles", `{"metadata": {"name": "dev"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}`)
	c.must("POST", rbac+"rolebindings", `{"metadata": {"name": "dev"},
		"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "dev"},
		"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dev"}]}`)
	eventually(t, func() error {
		if status, body := c.doAs(client, "GET", "/api/v1/namespaces/default/pods", ""); status != http.StatusOK {
			return fmt.Errorf("jane lists pods: %d %s", status, body)
		}
		return nil
	})

	// So is the kubeconfig, which leads to the cluster that it is from: with it jane
	// asks for a certificate herself, and may not.
	herself := newProject(t, p.path("jane.kubeconfig"), janeSpec)
	herself.want(1, apply, `User "jane" cannot create resource`)

	// It is renewed in the same way, and the old pair is there until then.
	p.skip = 20 * time.Hour
	old := p.read("jane/tls.crt")
	p.want(3, apply, "RenewalDue")
	p.want(2, plan, "RenewalDue", "1 waiting")
	p.want(0, []string{"verify"}, "1 ok, 0 wrong")
	if !bytes.Equal(old, p.read("jane/tls.crt")) {
		t.Error("the certificate has changed before the renewal is answered")
	}
	p.want(0, []string{"approve", "jane"}, "approved")
	p.want(0, []string{"apply", "--yes", "--wait"}, "1 done")
	p.want(0, plan)
	if bytes.Equal(old, p.read("jane/tls.crt")) {
		t.Error("the certificate is the old one")
	}
	p.pair("jane/tls.crt", "jane/tls.key")
}

// doAs calls the apiserver with a client of the test's.
func (c cluster) doAs(client *http.Client, method, path, body string) (int, []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+path, strings.NewReader(body))
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
	return answer.StatusCode, text
}

func (c cluster) as(client *http.Client, method, path, body string, want int) []byte {
	c.t.Helper()
	status, text := c.doAs(client, method, path, body)
	if status != want {
		c.t.Fatalf("%s %s: %d, want %d: %s", method, path, status, want, text)
	}
	return text
}

const webhookSpec = `
issuers:
  webhooks: {kubernetes: {cluster: kubetest, signerName: example.com/webhooks, ca: signer.pem}}
  signer:
    ca: {commonName: webhook signer, files: {combined: signer.pem}}
certificates:
  webhook:
    issuer: webhooks
    profile: server
    dnsNames: [my-svc.my-namespace.svc.cluster.local, my-pod.my-namespace.pod.cluster.local]
    ipAddresses: [192.0.2.24, 10.0.34.2]
    files: {fullChain: webhook.crt, privateKey: webhook.key, ca: webhook-ca.crt}
`

// sign is a custom signer: it signs an approved request with a CA of the project.
func (c cluster) sign(p *project, name, file string) {
	c.t.Helper()
	ca, err := pki.ParseCertificates(p.read(file))
	if err != nil {
		c.t.Fatal(err)
	}
	key, _, err := pki.ParseKey(p.read(file), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	csr := c.csr(name)
	block, _ := pem.Decode(csr.Spec.Request)
	r := pki.Request{CSR: block.Bytes, Duration: time.Duration(*csr.Spec.ExpirationSeconds) * time.Second, Now: time.Now()}
	for _, u := range csr.Spec.Usages {
		r.Usages = append(r.Usages, spec.Usage(u))
	}
	cert, err := pki.Sign(r, ca[0], key.Signer())
	if err != nil {
		c.t.Fatal(err)
	}
	csr.Status.Certificate = pki.EncodeCertificates(cert)
	c.must("PUT", csrPath+"/"+name+"/status", csr)
}

func testServer(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), webhookSpec)
	p.want(3, append(apply, "webhook", "issuers.signer"))
	name := p.request("webhook")
	c.approve(name)
	p.want(2, plan, "is approved, but example.com/webhooks has not signed it yet")
	p.want(3, apply, "has not signed it yet")
	c.sign(p, name, "signer.pem")
	p.want(0, apply, "1 done")
	p.want(0, plan)
	p.want(0, []string{"verify"})

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{p.pair("webhook.crt", "webhook.key")}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.read("webhook-ca.crt"))
	for _, host := range []string{"my-svc.my-namespace.svc.cluster.local", "my-pod.my-namespace.pod.cluster.local", "192.0.2.24", "10.0.34.2"} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}}}
		answer, err := client.Get(server.URL)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		answer.Body.Close()
	}

	// A signer that is not the one whose CA the spec states is not believed.
	p.skip = 80 * 24 * time.Hour
	p.want(3, apply, "RenewalDue")
	old := p.read("webhook.crt")
	name = p.request("webhook")
	c.approve(name)
	other := newProject(t, c.Kubeconfig("admin"), strings.ReplaceAll(webhookSpec, "commonName: webhook signer", "commonName: another signer"))
	other.want(0, append(apply, "issuers.signer"))
	other.skip = p.skip
	c.sign(other, name, "signer.pem")
	for range 2 {
		p.want(1, apply, "not acceptable: it does not chain to the trust anchor")
	}
	if !bytes.Equal(old, p.read("webhook.crt")) {
		t.Error("the certificate has changed")
	}
	p.want(3, append(apply, "--replace", "webhook"))
	again := p.request("webhook")
	if again == name {
		t.Error("the replacement is the same request")
	}
	// Nor is one that answers with a certificate for another key.
	c.approve(again)
	csr := c.csr(again)
	csr.Status.Certificate = p.read("webhook.crt")
	c.must("PUT", csrPath+"/"+again+"/status", csr)
	p.want(1, apply, "not acceptable: the issuer returned a certificate for another key")
	if !bytes.Equal(old, p.read("webhook.crt")) {
		t.Error("the certificate has changed")
	}
	p.pair("webhook.crt", "webhook.key")
	c.clear()
}

func testDecide(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), strings.Replace(janeSpec, "  jane:\n", "  joe: {issuer: clients, commonName: joe, profile: client, files: {combined: joe.pem}}\n  jane:\n", 1))
	p.want(1, []string{"approve", "jane"}, `certificate "jane" has no pending request`)
	p.want(1, []string{"approve", "nobody"}, `no certificate and no certificate signing request is named "nobody"`)
	p.want(1, []string{"approve"}, "approve needs names")
	p.want(3, apply, "2 waiting")
	jane, joe := p.request("jane"), p.request("joe")
	p.want(0, []string{"deny", "jane", "--reason", "she has left"}, jane+` of certificate "jane": denied`)
	p.want(0, []string{"approve", joe}, joe+` of certificate "joe": approved`)
	p.want(0, []string{"approve", "joe"}, "approved")
	p.want(1, []string{"approve", jane}, "is denied already")
	p.want(1, []string{"approve", "j*"}, `nothing named "j*" waits for approval`)
	c.waitIssued(joe)
	out := p.want(1, plan, `certificate "jane": the request `+jane+` was denied: CertsyncDeny: she has left`, "--replace jane")
	if strings.Contains(out, "certificate approve") {
		t.Errorf("there is nothing to approve:\n%s", out)
	}
	p.want(1, []string{"status"}, "denied")
	if out := p.want(1, []string{"verify", "jane"}, "0 ok, 1 wrong"); strings.Count(out, "was denied") != 1 {
		t.Errorf("it is told twice:\n%s", out)
	}
	p.want(1, apply, "she has left", "1 done, 1 failed")
	p.pair("joe.pem", "joe.pem")

	// What can be repaired is, and it is no success for that.
	p.want(3, append(apply, "--replace", "joe", "joe"))
	if out := p.want(0, []string{"deny", "*", "--reason", "one is enough"}); strings.Contains(out, jane) {
		t.Errorf("what is decided is decided again:\n%s", out)
	}
	if err := os.Chmod(p.path("joe.pem"), 0o640); err != nil {
		t.Fatal(err)
	}
	p.want(2, append(plan, "joe"), "OutputDrift", "one is enough")
	p.want(1, append(apply, "joe"), "Apply: 1 done, 0 failed.", `error: certificate "joe": the request`, "one is enough", "--replace joe")
	p.pair("joe.pem", "joe.pem")
	p.want(1, append(apply, "joe"), "one is enough")
	p.edit("commonName: joe", "commonName: joey")
	p.want(3, append(apply, "joe"))
	p.want(0, []string{"approve", "joe"})
	p.want(0, append(apply, "joe", "--wait"))

	// The cluster forgets it, certsync does not.
	c.must("DELETE", csrPath+"/"+jane, nil)
	p.skip = 48 * time.Hour
	p.want(1, plan, "she has left")
	p.want(1, apply, "she has left")
	if n := len(c.csrs()); n != 0 {
		t.Errorf("%d requests", n)
	}
	p.want(3, append(apply, "--replace", "jane"))
	if again := p.request("jane"); again == jane {
		t.Error("it is the request that was denied")
	}
	// Somebody's request that is not of the spec goes by its own name.
	copied := c.csr(p.request("jane"))
	copied.ObjectMeta = metav1.ObjectMeta{Name: "somebody"}
	c.must("POST", csrPath, copied)
	p.want(0, []string{"approve", "somebody"}, "somebody: approved")
	c.waitIssued("somebody")
	c.clear()
}

func testSignerFails(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), webhookSpec)
	p.want(3, apply)
	name := p.request("webhook")
	c.approve(name)
	c.condition(name, "status", certificates.CertificateFailed)
	p.want(1, plan, "the signer failed to serve the request "+name+": Test: by the test", "--replace webhook")
	p.want(1, []string{"status"}, "failed")
	p.want(1, apply, "by the test")
	c.clear()
	p.want(1, apply, "by the test")
	p.edit("192.0.2.24", "192.0.2.25") // another request may be served
	p.want(3, apply)
	c.clear()
}

func testApproves(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), strings.Replace(janeSpec, "client}}", "client, approve: true}}", 1))
	p.want(0, apply, "1 done")
	p.want(0, plan)
	p.pair("jane/tls.crt", "jane/tls.key")
	if n := len(c.csrs()); n != 0 {
		t.Errorf("%d requests are left", n)
	}
}

func testRemoved(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), janeSpec)
	p.want(3, apply)
	name := p.request("jane")
	c.clear()
	p.want(2, plan, "was removed unanswered: it is sent again after")
	p.want(3, apply)
	p.skip = 5 * time.Minute
	p.want(2, plan, "was removed unanswered: it is sent again")
	p.want(3, apply, "waits for approval")
	// Issued this time, but removed before anybody fetched it.
	c.approve(name)
	c.waitIssued(name)
	c.clear()
	p.skip = 10 * time.Minute
	p.want(1, plan, "was removed unanswered, 2 times", "--replace jane")
	p.want(1, apply)
	if n := len(c.csrs()); n != 0 {
		t.Errorf("%d requests", n)
	}
	p.want(3, append(apply, "--replace", "jane"))
	p.want(0, []string{"approve", "*"})
	p.want(0, []string{"apply", "--yes", "--wait=20s"})
	p.want(0, plan)
}

// While certsync waits, the object is removed.
func testForeign(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), janeSpec)
	p.want(3, apply)
	name := p.request("jane")
	same := c.csr(name)
	same.ObjectMeta = metav1.ObjectMeta{Name: name}
	same.Status = certificates.CertificateSigningRequestStatus{}
	c.clear()
	c.must("POST", csrPath, same) // the same request, but another object
	p.want(1, plan, "there is another request of that name", "the one that was sent is gone", "--replace jane")
	p.want(1, apply, "there is another request of that name")
	p.want(1, []string{"approve", "jane"}, "there is another request of that name")
	p.want(1, []string{"approve", "*"}, "there is another request of that name")
	if conditions := c.csr(name).Status.Conditions; len(conditions) > 0 {
		t.Errorf("a request that is not its own has %v", conditions)
	}
	c.clear()

	// One that certsync has not sent yet, when somebody takes the name.
	p = newProject(t, c.Kubeconfig("admin"), janeSpec)
	if err := c.Halt(kubetest.APIServer); err != nil {
		t.Fatal(err)
	}
	p.want(1, apply, "cannot be reached")
	p.want(1, plan, "cannot be reached")
	name = p.request("jane")
	if err := c.Resume(t.Context(), kubetest.APIServer); err != nil {
		t.Fatal(err)
	}
	foreign := same.DeepCopy()
	foreign.Name = name
	c.must("POST", csrPath, foreign)
	p.want(1, apply, "which asks for something else", "get csr "+name)
	if uid := c.csr(name).UID; uid == "" {
		t.Error("it is gone")
	}
	c.must("DELETE", csrPath+"/"+name, nil)
	p.want(3, apply)
	if again := p.request("jane"); again != name {
		t.Errorf("it is not the request that was made before: %s, %s", again, name)
	}
	c.clear()
}
