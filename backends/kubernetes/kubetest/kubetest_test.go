package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// users are clients beside those of the example: two of a group and one of another;
// and those that the apiserver has to refuse. What a stranger says of themselves is
// what an administrator does.
const users = `
apiVersion: certsync/v1
issuers:
  strangers:
    ca:
      commonName: kubernetes
      files: {certificate: pki/strangers-ca.crt, privateKey: pki/strangers-ca.key}
certificates:
  user-${each.key}:
    forEach: {jane: dev, joe: dev, olga: ops}
    profile: client
    commonName: ${each.key}
    subject: {organizations: ["${each.value}"]}
    kubeconfig: {path: "${each.key}.conf", server: "https://${vars.endpoint}:${vars.port}"}
  stranger:
    issuer: strangers
    profile: client
    commonName: kubernetes-super-admin
    subject: {organizations: ["system:masters"]}
    files: {certificate: pki/stranger.crt, privateKey: pki/stranger.key}
  server:
    profile: server
    commonName: kubernetes-super-admin
    subject: {organizations: ["system:masters"]}
    dnsNames: [localhost]
    files: {certificate: pki/server.crt, privateKey: pki/server.key}
  expired:
    profile: client
    duration: 2s
    renewBefore: 1s
    commonName: kubernetes-super-admin
    subject: {organizations: ["system:masters"]}
    files: {certificate: pki/expired.crt, privateKey: pki/expired.key}
`

// TestControlPlane runs what certsync issued from the example, for everyone who is
// part of a control plane and for some who are not.
func TestControlPlane(t *testing.T) {
	c := Start(t)
	if err := os.WriteFile(filepath.Join(c.Dir, "users.yaml"), []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Certsync(t.Context(), "apply", "--yes"); err != nil {
		t.Fatalf("certsync apply: %v\n%s", err, out)
	}

	t.Run("who shows no certificate is not let in", func(t *testing.T) {
		wantStatus(t, c, "", "/", http.StatusUnauthorized)
	})
	t.Run("who shows one gets the paths of the API", func(t *testing.T) {
		var answer struct{ Paths []string }
		if err := json.Unmarshal(wantStatus(t, c, "admin", "/", http.StatusOK), &answer); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(answer.Paths, " "), "/apis/certificates.k8s.io/v1") {
			t.Errorf("the paths are %v", answer.Paths)
		}
	})
	t.Run("a certificate that is not good is refused", func(t *testing.T) {
		time.Sleep(time.Until(notAfter(t, c, "expired").Add(time.Second)))
		for _, test := range []struct{ name, why string }{
			{"stranger", "certificate signed by unknown authority"},
			{"front-proxy-client", "certificate signed by unknown authority"},
			{"etcd/healthcheck-client", "certificate signed by unknown authority"},
			{"sa", "certificate signed by unknown authority"},
			{"server", "certificate specifies an incompatible key usage"},
			{"expired", "certificate has expired"},
		} {
			wantStatus(t, c, test.name, "/", http.StatusUnauthorized)
			// The client is not told why; the log is.
			serial := certificate(t, c, test.name).SerialNumber.String()
			eventually(t, 5*time.Second, func() error {
				log, err := os.ReadFile(c.processes[1].log)
				if err != nil {
					return err
				}
				for line := range strings.Lines(string(log)) {
					if strings.Contains(line, "SN="+serial) && strings.Contains(line, test.why) {
						return nil
					}
				}
				return fmt.Errorf("the apiserver's log does not say of %s: %s", test.name, test.why)
			})
		}
	})
	t.Run("components are who they are", func(t *testing.T) { testComponents(t, c) })
	t.Run("rights go by organization and by common name", func(t *testing.T) { testRBAC(t, c) })
	t.Run("tokens of service accounts", func(t *testing.T) { testTokens(t, c) })
	t.Run("the controller manager signs requests with the CA", func(t *testing.T) { testSigner(t, c) })
	t.Run("etcd", func(t *testing.T) { testEtcd(t, c) })
	t.Run("a browser", func(t *testing.T) { testBrowser(t, c) })
	t.Run("inspect", func(t *testing.T) { testInspect(t, c) })
	t.Run("kubectl", func(t *testing.T) { testKubectl(t, c) })
	t.Run("a new certificate is served without a restart", func(t *testing.T) { testReplace(t, c) })

	// At the end, as others are not to wait for it.
	t.Run("nothing is left", func(t *testing.T) { testStop(t, c) })
}

// get sends a request of a user's, and returns the answer.
func get(t *testing.T, c *ControlPlane, user, path string) (int, []byte) {
	t.Helper()
	client, err := c.Client(user)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", c.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s as %q: %v", path, user, err)
	}
	defer answer.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(answer.Body); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, body.Bytes()
}

func wantStatus(t *testing.T, c *ControlPlane, user, path string, want int) []byte {
	t.Helper()
	status, body := get(t, c, user, path)
	if status != want {
		t.Errorf("GET %s as %q: %d, want %d: %s", path, user, status, want, body)
	}
	return body
}

// eventually repeats what the control plane does some time after it was told to.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(poll) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("after %s: %v", within, err)
}

// create makes an object as the super-administrator.
func create(t *testing.T, c *ControlPlane, path, object string) []byte {
	t.Helper()
	client, err := c.Client("super-admin")
	if err != nil {
		t.Fatal(err)
	}
	body, err := do(t.Context(), client, "POST", c.URL+path, object)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func certificate(t *testing.T, c *ControlPlane, name string) *x509.Certificate {
	t.Helper()
	pair, err := c.pair(name)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func notAfter(t *testing.T, c *ControlPlane, name string) time.Time {
	t.Helper()
	return certificate(t, c, name).NotAfter
}

// whoAmI returns the user and groups as which the apiserver knows a client.
func whoAmI(t *testing.T, c *ControlPlane, client *http.Client) (user string, groups []string) {
	t.Helper()
	body, err := do(t.Context(), client, "POST", c.URL+"/apis/authentication.k8s.io/v1/selfsubjectreviews",
		`{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}`)
	if err != nil {
		t.Fatal(err)
	}
	var review struct {
		Status struct {
			UserInfo struct {
				Username string
				Groups   []string
			}
		}
	}
	if err := json.Unmarshal(body, &review); err != nil {
		t.Fatal(err)
	}
	return review.Status.UserInfo.Username, review.Status.UserInfo.Groups
}

func testComponents(t *testing.T, c *ControlPlane) {
	for name, want := range map[string]string{
		"admin":                    "kubernetes-admin kubeadm:cluster-admins",
		"super-admin":              "kubernetes-super-admin system:masters",
		"controller-manager":       "system:kube-controller-manager",
		"scheduler":                "system:kube-scheduler",
		"kubelet":                  "system:node:" + Node + " system:nodes",
		"apiserver-kubelet-client": "kube-apiserver-kubelet-client",
	} {
		client, err := c.Client(name)
		if err != nil {
			t.Fatal(err)
		}
		user, groups := whoAmI(t, c, client)
		got := strings.Join(append([]string{user}, groups...), " ")
		if got != want+" system:authenticated" {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// What the roles of a fresh cluster say about them.
	wantStatus(t, c, "admin", "/api/v1/namespaces/kube-system/secrets", http.StatusOK)
	wantStatus(t, c, "super-admin", "/api/v1/namespaces/kube-system/secrets", http.StatusOK)
	wantStatus(t, c, "scheduler", "/api/v1/pods", http.StatusOK)
	wantStatus(t, c, "scheduler", "/api/v1/namespaces/kube-system/secrets", http.StatusForbidden)
	wantStatus(t, c, "kubelet", "/api/v1/pods?fieldSelector=spec.nodeName="+Node, http.StatusOK)
	wantStatus(t, c, "apiserver-kubelet-client", "/api/v1/nodes", http.StatusOK)
	wantStatus(t, c, "apiserver-kubelet-client", "/api/v1/namespaces/kube-system/secrets", http.StatusForbidden)
	wantStatus(t, c, "kubelet", "/api/v1/namespaces/kube-system/secrets", http.StatusForbidden)

	// The front proxy speaks for others. Who is none says it in vain.
	for name, want := range map[string]int{"front-proxy-client": http.StatusOK, "olga": http.StatusForbidden} {
		client, err := c.Client(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), "GET", c.URL+"/api/v1/namespaces/kube-system/secrets", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Remote-User", "somebody")
		r.Header.Set("X-Remote-Group", "system:masters")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s speaks for a master: %s, want %d", name, answer.Status, want)
		}
	}
}

func testRBAC(t *testing.T, c *ControlPlane) {
	const pods, configMaps = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/configmaps"
	for _, user := range []string{"jane", "joe", "olga"} {
		wantStatus(t, c, user, pods, http.StatusForbidden)
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/"
	role := func(name, resource, kind, subject string) {
		create(t, c, rbac+"roles", fmt.Sprintf(`{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": %q},
			"rules": [{"apiGroups": [""], "resources": [%q], "verbs": ["get", "list"]}]}`, name, resource))
		create(t, c, rbac+"rolebindings", fmt.Sprintf(`{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": %q},
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": %q},
			"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": %q, "name": %q}]}`, name, name, kind, subject))
	}
	role("dev-reads-pods", "pods", "Group", "dev")
	role("jane-reads-configmaps", "configmaps", "User", "jane")
	for path, user := range map[string]string{pods: "joe", configMaps: "jane"} {
		eventually(t, 10*time.Second, func() error {
			if status, body := get(t, c, user, path); status != http.StatusOK {
				return fmt.Errorf("GET %s as %s: %d: %s", path, user, status, body)
			}
			return nil
		})
	}
	wantStatus(t, c, "jane", pods, http.StatusOK)
	wantStatus(t, c, "olga", pods, http.StatusForbidden)
	wantStatus(t, c, "joe", configMaps, http.StatusForbidden)
	wantStatus(t, c, "olga", configMaps, http.StatusForbidden)
}

// testTokens has the apiserver sign a token with sa.key, and accept it by sa.crt.
func testTokens(t *testing.T, c *ControlPlane) {
	body := create(t, c, "/api/v1/namespaces/default/serviceaccounts/default/token",
		`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}`)
	var answer struct{ Status struct{ Token string } }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	client, err := c.Client("")
	if err != nil {
		t.Fatal(err)
	}
	client.Transport = bearer{answer.Status.Token, client.Transport}
	if user, _ := whoAmI(t, c, client); user != "system:serviceaccount:default:default" {
		t.Errorf("the token belongs to %q", user)
	}
}

type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// testSigner sees that the cluster publishes the CA, and has a controller that acts
// with a token of its own.
func testSigner(t *testing.T, c *ControlPlane) {
	want, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		status, body := get(t, c, "admin", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
		var configMap struct{ Data map[string]string }
		if status != http.StatusOK {
			return fmt.Errorf("%d: %s", status, body)
		}
		if err := json.Unmarshal(body, &configMap); err != nil {
			return err
		}
		if configMap.Data["ca.crt"] != string(want) {
			return fmt.Errorf("the published CA is %v", configMap.Data)
		}
		return nil
	})
	request, key := newRequest(t, "csr-user", "dev")
	create(t, c, "/apis/certificates.k8s.io/v1/certificatesigningrequests", fmt.Sprintf(`{
		"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "user"},
		"spec": {"request": %q, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}}`, request))
	client, err := c.Client("super-admin")
	if err != nil {
		t.Fatal(err)
	}
	const csr = "/apis/certificates.k8s.io/v1/certificatesigningrequests/user"
	_, pending := get(t, c, "super-admin", csr)
	var object map[string]any
	if err := json.Unmarshal(pending, &object); err != nil {
		t.Fatal(err)
	}
	object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Approved", "status": "True", "reason": "Test", "message": "by the test",
	}}}
	approved, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), client, "PUT", c.URL+csr+"/approval", string(approved)); err != nil {
		t.Fatal(err)
	}
	var signed struct{ Status struct{ Certificate []byte } }
	eventually(t, 15*time.Second, func() error {
		_, body := get(t, c, "super-admin", csr)
		if err := json.Unmarshal(body, &signed); err != nil {
			return err
		}
		if len(signed.Status.Certificate) == 0 {
			return fmt.Errorf("not signed: %s", body)
		}
		return nil
	})
	for name, text := range map[string][]byte{"csr.crt": signed.Status.Certificate, "csr.key": key} {
		if err := os.WriteFile(c.pki(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := certificate(t, c, "csr").CheckSignatureFrom(certificate(t, c, "ca")); err != nil {
		t.Error(err)
	}
	wantStatus(t, c, "csr", "/", http.StatusForbidden)
	wantStatus(t, c, "csr", "/version", http.StatusOK)
}

// testEtcd has etcd's clients and peers tell their certificates, or be refused.
func testEtcd(t *testing.T, c *ControlPlane) {
	for _, test := range []struct {
		url, name string
		accepted  bool
	}{
		{c.EtcdURL + "/health", "apiserver-etcd-client", true},
		{c.EtcdURL + "/health", "etcd/healthcheck-client", true},
		{c.EtcdURL + "/health", "", false},
		{c.EtcdURL + "/health", "super-admin", false},
		{c.EtcdURL + "/health", "front-proxy-client", false},
		{c.EtcdURL + "/health", "stranger", false},
		{c.EtcdPeerURL + "/members", "etcd/peer", true},
		{c.EtcdPeerURL + "/members", "", false},
		{c.EtcdPeerURL + "/members", "super-admin", false},
	} {
		client, err := c.client("etcd/ca", test.name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = do(t.Context(), client, "GET", test.url, "")
		switch {
		case test.accepted && err != nil:
			t.Errorf("%s as %q: %v", test.url, test.name, err)
		case !test.accepted && err == nil:
			t.Errorf("%s as %q is accepted", test.url, test.name)
		case !test.accepted && !strings.Contains(err.Error(), "remote error: tls:"):
			t.Errorf("%s as %q: %v, want an alert of the server's", test.url, test.name, err)
		}
	}
}

// testKubectl has kubectl use the kubeconfigs.
func testKubectl(t *testing.T, c *ControlPlane) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return // the same was asked without it
	}
	for name, want := range map[string]string{
		"admin": "kubernetes-admin", "super-admin": "kubernetes-super-admin", "controller-manager": "system:kube-controller-manager",
		"scheduler": "system:kube-scheduler", "kubelet": "system:node:" + Node, "jane": "jane",
	} {
		cmd := exec.Command(kubectl, "--kubeconfig", c.Kubeconfig(name), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // kubectl keeps a cache there
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("kubectl as %s: %v: %s", name, err, out)
		}
	}
}

// testReplace has certsync replace the certificates that servers serve, and sees the
// same processes serve the new ones.
func testReplace(t *testing.T, c *ControlPlane) {
	pids := map[string]int{}
	for _, p := range c.processes {
		pids[p.name] = p.cmd.Process.Pid
	}
	for _, test := range []struct{ certificate, file, ca, client, url string }{
		{"apiserver", "apiserver", "ca", "admin", c.URL},
		{"etcd-server", "etcd/server", "etcd/ca", "apiserver-etcd-client", c.EtcdURL},
		{"etcd-peer", "etcd/peer", "etcd/ca", "etcd/peer", c.EtcdPeerURL},
	} {
		served := func() *x509.Certificate {
			t.Helper()
			config, err := c.TLS(test.ca, test.client)
			if err != nil {
				t.Fatal(err)
			}
			dialer := tls.Dialer{Config: config}
			conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(test.url, "https://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		}
		before := served()
		if out, err := c.Certsync(t.Context(), "apply", "--yes", "--replace", test.certificate); err != nil {
			t.Fatalf("certsync apply: %v\n%s", err, out)
		}
		want := certificate(t, c, test.file)
		if bytes.Equal(want.RawSubjectPublicKeyInfo, before.RawSubjectPublicKeyInfo) {
			t.Fatalf("%s has the old key", test.certificate)
		}
		// The apiserver watches its files, and besides looks once a minute; until
		// then every connection succeeds with the old certificate.
		began := time.Now()
		eventually(t, 90*time.Second, func() error {
			if now := served(); !now.Equal(want) {
				return fmt.Errorf("%s has serial %x, not %x", test.url, now.SerialNumber, want.SerialNumber)
			}
			return nil
		})
		t.Logf("%s: served after %s", test.certificate, time.Since(began).Round(time.Millisecond))
	}
	for _, p := range c.processes {
		if p.cmd.Process.Pid != pids[p.name] || p.cmd.ProcessState != nil {
			t.Errorf("%s is not the process that it was", p.name)
		}
	}
	wantStatus(t, c, "admin", "/readyz", http.StatusOK)
	wantStatus(t, c, "admin", "/api/v1/namespaces", http.StatusOK)
}

func testStop(t *testing.T, c *ControlPlane) {
	processes := c.processes
	if len(processes) != 3 {
		t.Fatalf("%d programs ran", len(processes))
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if err := syscall.Kill(-p.cmd.Process.Pid, 0); err == nil {
			t.Errorf("%s still runs", p.name)
		}
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", c.Dir, err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// TestBrokenProgram sees that a control plane that does not come up says why, and
// leaves nothing.
func TestBrokenProgram(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	program := filepath.Join(tmp, "broken")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho no such luck\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Programs{Etcd: program, APIServer: program, ControllerManager: program})
	if err == nil || !strings.Contains(err.Error(), "etcd ended: exit status 3") || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("the error is %v", err)
	}
	left, err := filepath.Glob(filepath.Join(tmp, "certsync-control-plane-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestStopKills stops a program that does not want to end.
func TestStopKills(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := startProcess("stubborn", log, "/bin/sh", []string{"-c", "trap '' TERM; echo ready; while :; do sleep 1; done"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if p.tail() != "ready" {
			return fmt.Errorf("the log says %q", p.tail())
		}
		return nil
	})
	if err := p.stop(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := p.cmd.ProcessState.String(); got != "signal: killed" {
		t.Errorf("it ended with %s", got)
	}
	// Its sleep is of the same group.
	eventually(t, 5*time.Second, func() error {
		if err := syscall.Kill(-p.cmd.Process.Pid, 0); err == nil {
			return fmt.Errorf("something of its group still runs")
		}
		return nil
	})
}

// TestOneBuilds sees that of two builds one waits, and gives up with its context.
func TestOneBuilds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache", "lock")
	unlock, err := lock(t.Context(), path, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var progress bytes.Buffer
	if _, err := lock(ctx, path, &progress); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("a lock that is held: %v", err)
	}
	if !strings.Contains(progress.String(), "waiting for another build") {
		t.Errorf("the progress says %q", progress.String())
	}
	unlock()
	again, err := lock(t.Context(), path, &progress)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
