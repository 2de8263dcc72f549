package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/kubernetes/kubetest"
)

// proxy stands between certsync and the apiserver, as an administrator.
type proxy struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string // method, path and, once it is answered, status of each
	// before and after are called around the call of that number, from 1 on. Before
	// tells whether the call is to reach the apiserver.
	before func(n int, w http.ResponseWriter, r *http.Request) bool
	after  func(n int)
}

// newProxy returns a proxy and a kubeconfig that leads to it.
func newProxy(t *testing.T, c cluster) (*proxy, string) {
	t.Helper()
	target, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.TLS("ca", "admin")
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Transport: &http.Transport{TLSClientConfig: config},
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}}
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.calls = append(p.calls, r.Method+" "+r.URL.Path)
		n, before, after := len(p.calls), p.before, p.after
		w = &statusWriter{ResponseWriter: w, p: p, n: n - 1, calls: p.calls}
		p.mu.Unlock()
		if before != nil && !before(n, w, r) {
			return
		}
		forward.ServeHTTP(w, r)
		if after != nil {
			after(n)
		}
	}))
	t.Cleanup(func() {
		p.Server.CloseClientConnections()
		p.Server.Close()
	})
	return p, kubeconfigOf(t, p.URL)
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	p     *proxy
	n     int
	calls []string
}

func (w *statusWriter) WriteHeader(status int) {
	w.p.mu.Lock()
	w.calls[w.n] += fmt.Sprint(" ", status)
	w.p.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController, which flushes what is watched.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// made counts the requests that were made in the cluster.
func (p *proxy) made() (n int) {
	for _, call := range p.seen() {
		if call == "POST "+csrPath+" 201" {
			n++
		}
	}
	return n
}

func kubeconfigOf(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: \"" + server + "\"}}]\n" +
		"users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *proxy) set(before func(n int, w http.ResponseWriter, r *http.Request) bool, after func(n int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.before, p.after = nil, before, after
}

func (p *proxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.calls...)
}

// faultySpec approves by itself, so that one run makes every kind of call.
const proxiedSpec = `
issuers:
  clients: {kubernetes: {cluster: kubetest, signerName: kubernetes.io/kube-apiserver-client, approve: true}}
certificates:
  jane: {issuer: clients, commonName: jane, profile: client, duration: 24h, files: {certificate: jane.crt, privateKey: jane.key}}
`

// Killed before and after each call of the API, and started again: there is no
// second key and no second request, and the certificate comes in the end.
func testKilledAtCalls(t *testing.T, c cluster) {
	proxy, kubeconfig := newProxy(t, c)
	for _, when := range []string{"before", "after"} {
		killed := 0
		for n := 1; ; n++ {
			c.clear()
			p := newProject(t, kubeconfig, proxiedSpec)
			cmd := selfCommand(t, p.dir, "apply", "--yes", "--wait=30s")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			var fired atomic.Bool
			started, dead := make(chan struct{}), make(chan struct{})
			kill := func() {
				fired.Store(true)
				<-started
				_ = cmd.Process.Kill()
				<-dead
			}
			proxy.set(func(i int, w http.ResponseWriter, _ *http.Request) bool {
				if i == n && when == "before" {
					kill()
					return false
				}
				return true
			}, func(i int) {
				if i == n && when == "after" {
					kill()
				}
			})
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			err := cmd.Wait()
			close(dead)
			calls, made := proxy.seen(), len(c.csrs()) // the proxy did not live to see an answer, or did
			if !fired.Load() {
				if err != nil {
					t.Fatalf("%v\n%s", err, out.String())
				}
				if n < 4 {
					t.Fatalf("only %d calls: %v", n-1, calls)
				}
				break
			}
			killed++
			if proxy.made() > made {
				made = proxy.made() // it is answered, and gone
			}
			proxy.set(nil, nil)
			p.want(0, []string{"apply", "--yes", "--wait=30s"})
			if made += proxy.made(); made != 1 {
				t.Errorf("killed %s call %d, %v, and then %v: %d requests were made", when, n, calls, proxy.seen(), made)
			}
			p.want(0, plan)
			p.pair("jane.crt", "jane.key")
			if left, err := filepath.Glob(p.path(".certsync/pending/*/*")); err != nil || len(left) > 0 {
				t.Errorf("pending: %v %v", left, err)
			}
		}
		t.Logf("killed %s each of %d calls", when, killed)
	}
	c.clear()
}

// Each call is answered with each kind of error, or breaks off: the next apply goes
// on where this one stopped, and asks for nothing twice.
func testFailedCalls(t *testing.T, c cluster) {
	proxy, kubeconfig := newProxy(t, c)
	failures := map[string]func(w http.ResponseWriter){
		"server error": func(w http.ResponseWriter) { http.Error(w, "no", http.StatusInternalServerError) },
		"bare 404":     func(w http.ResponseWriter) { http.NotFound(w, nil) },
		"cut off":      func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"garbage": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"kind":`)
		},
	}
	for name, fail := range failures {
		for n := 1; ; n++ {
			c.clear()
			p := newProject(t, kubeconfig, proxiedSpec)
			var fired atomic.Bool
			proxy.set(func(i int, w http.ResponseWriter, _ *http.Request) bool {
				if i == n {
					fired.Store(true)
					fail(w)
					return false
				}
				return true
			}, nil)
			out, code := p.certsync("apply", "--yes", "--wait=30s")
			if !fired.Load() {
				if code != 0 {
					t.Fatalf("exit code %d:\n%s", code, out)
				}
				break
			}
			calls, made := proxy.seen(), proxy.made()
			proxy.set(nil, nil)
			p.want(0, []string{"apply", "--yes", "--wait=30s"})
			if made += proxy.made(); made != 1 {
				t.Errorf("%s at call %d, %v, and then %v: %d requests were made", name, n, calls, proxy.seen(), made)
			}
			p.want(0, plan)
			p.pair("jane.crt", "jane.key")
		}
	}
	c.clear()
}

// What passes by itself is tried again within the same run, and not without end.
func testRetried(t *testing.T, c cluster) {
	proxy, kubeconfig := newProxy(t, c)
	failures := map[string]func(w http.ResponseWriter){
		"unavailable": func(w http.ResponseWriter) { http.Error(w, "no", http.StatusServiceUnavailable) },
		"cut off":     func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	for name, fail := range failures {
		for _, call := range []string{"POST " + csrPath, "PUT " + csrPath} {
			for _, test := range []struct{ failing, code int }{{2, 0}, {100, 1}} {
				c.clear()
				p := newProject(t, kubeconfig, proxiedSpec)
				var failed atomic.Int64
				proxy.set(func(_ int, w http.ResponseWriter, r *http.Request) bool {
					if !strings.HasPrefix(r.Method+" "+r.URL.Path, call) || failed.Add(1) > int64(test.failing) {
						return true
					}
					fail(w)
					return false
				}, nil)
				out, code := p.certsync("apply", "--yes", "--wait=30s")
				if n := failed.Load(); code != test.code || n < 3 || n > 30 {
					t.Errorf("%s: %s failed %d times: exit code %d, want %d, after %d calls\n%s", call, name, test.failing, code, test.code, n, out)
				}
			}
		}
	}
	c.clear()
}

// Ctrl-C while it waits: what is asked for is fetched by the next apply.
func testInterrupt(t *testing.T, c cluster) {
	proxy, kubeconfig := newProxy(t, c)
	p := newProject(t, kubeconfig, strings.Replace(proxiedSpec, ", approve: true", "", 1))
	watched := make(chan struct{})
	proxy.set(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("watch") {
			close(watched)
		}
		return true
	}, nil)
	waiting := start(t, p.dir, "apply", "--yes", "--wait=5m")
	<-watched
	if err := waiting.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if by, code := waiting.end(t); by != 0 || code != int(exitIncomplete) {
		t.Fatalf("exit code %d, ended by signal %v\n%s", code, by, waiting.output.String())
	}
	if !strings.Contains(waiting.output.String(), "1 waiting") {
		t.Error(waiting.output.String())
	}
	proxy.set(nil, nil)
	p.want(0, []string{"approve", "jane"})
	p.want(0, []string{"apply", "--yes", "--wait=30s"})
	p.want(0, plan)
}

func testSignerDown(t *testing.T, c cluster) {
	if err := c.Halt(kubetest.ControllerManager); err != nil {
		t.Fatal(err)
	}
	p := newProject(t, c.Kubeconfig("admin"), janeSpec)
	p.want(3, apply)
	name := p.request("jane")
	p.want(0, []string{"approve", "jane"})
	p.want(2, plan, name+" is approved, but kubernetes.io/kube-apiserver-client has not signed it yet")
	p.want(3, []string{"apply", "--yes", "--wait=1s"}, "has not signed it yet")
	if err := c.Resume(t.Context(), kubetest.ControllerManager); err != nil {
		t.Fatal(err)
	}
	p.want(0, []string{"apply", "--yes", "--wait=60s"}, "1 done")
	p.want(0, plan)
	p.pair("jane/tls.crt", "jane/tls.key")
}

// An apply that waits outlives the apiserver.
func testRestart(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), janeSpec)
	p.want(3, apply)
	name := p.request("jane")
	type result struct {
		out  string
		code int
	}
	done := make(chan result, 1)
	go func() {
		out, code := p.certsync("apply", "--yes", "--wait=2m")
		done <- result{out, code}
	}()
	time.Sleep(time.Second) // until it watches; the test holds if it does not yet
	if err := c.Halt(kubetest.APIServer); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := c.Resume(t.Context(), kubetest.APIServer); err != nil {
		t.Fatal(err)
	}
	c.approve(name)
	if r := <-done; r.code != 0 {
		t.Fatalf("exit code %d:\n%s", r.code, r.out)
	}
	p.want(0, plan)
	p.pair("jane/tls.crt", "jane/tls.key")
}

// A signer that gives an hour at most is told of once, and does not loop.
func testClamped(t *testing.T, c cluster) {
	if err := c.Halt(kubetest.ControllerManager); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(t.Context(), kubetest.ControllerManager, "--cluster-signing-duration=1h"); err != nil {
		t.Fatal(err)
	}
	p := newProject(t, c.Kubeconfig("admin"), strings.Replace(janeSpec, "client}}", "client, approve: true}}", 1))
	p.want(0, []string{"apply", "--yes", "--wait=60s"}, "the issuer altered duration: 24h → 1h")
	for _, p.skip = range []time.Duration{0, 10 * time.Minute, 20 * time.Minute} {
		p.want(0, plan)
		out := p.want(0, apply)
		if strings.Contains(out, "altered") {
			t.Errorf("told again:\n%s", out)
		}
	}
	p.skip = 50 * time.Minute
	p.want(2, plan, "RenewalDue")
}

// kubeletSpec requests as somebody who may do nothing but that.
const kubeletSpec = `
issuers:
  kubelets: {kubernetes: {cluster: kubetest, signerName: kubernetes.io/kube-apiserver-client-kubelet}}
certificates:
  kubelet:
    issuer: kubelets
    commonName: system:node:worker-1
    subject: {organizations: ["system:nodes"]}
    profile: client
    files: {combined: kubelet.pem}
`

func testKubelet(t *testing.T, c cluster) {
	user := c.user("bootstrapper", "system:bootstrappers:test")
	const rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
	for name, role := range map[string]string{"test-bootstrapper": "system:node-bootstrapper",
		"test-auto-approve": "system:certificates.k8s.io:certificatesigningrequests:nodeclient"} {
		c.must("POST", rbac, fmt.Sprintf(`{"metadata": {"name": %q}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": %q},
			"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers:test"}]}`, name, role))
	}
	p := newProject(t, user, kubeletSpec)
	eventually(t, func() error { // RBAC takes a moment
		if out, code := p.certsync("apply", "--yes", "--wait=20s"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	p.want(0, plan)
	p.pair("kubelet.pem", "kubelet.pem")
	c.clear()
}

// What a kubelet serves with is signed by the cluster, too, but approved by nobody by
// itself.
func testKubeletServing(t *testing.T, c cluster) {
	p := newProject(t, c.Kubeconfig("admin"), `
issuers:
  serving: {kubernetes: {cluster: kubetest, signerName: kubernetes.io/kubelet-serving}}
certificates:
  node:
    issuer: serving
    commonName: system:node:node-1
    subject: {organizations: [system:nodes]}
    dnsNames: [node-1.example.com]
    ipAddresses: [10.0.0.7]
    profile: server
    duration: 24h
    files: {fullChain: node.crt, privateKey: node.key, ca: ca.crt}
`)
	p.want(3, apply, "waits for approval")
	p.want(0, []string{"approve", "node"})
	p.want(0, []string{"apply", "--yes", "--wait=20s"})
	p.want(0, plan)
	pair := p.pair("node.crt", "node.key")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.read("ca.crt"))
	for _, name := range []string{"node-1.example.com", "10.0.0.7"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Error(err)
		}
	}
	c.clear()
}

// user issues a client certificate from the cluster's CA and returns a kubeconfig
// for it.
func (c cluster) user(name, group string) string {
	c.t.Helper()
	text := fmt.Sprintf("apiVersion: certsync/v1\ncertificates:\n  test-%s: {issuer: ca, profile: client, commonName: %q, subject: {organizations: [%q]}, kubeconfig: {path: %s.conf, server: %q}}\n",
		name, name, group, name, c.URL)
	if err := os.WriteFile(filepath.Join(c.Dir, "user-"+name+".yaml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if out, err := c.Certsync(c.t.Context(), "apply", "--yes"); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return c.Kubeconfig(name)
}

// rules gives a user these rules and no others.
func (c cluster) rules(user string, rules ...string) {
	c.t.Helper()
	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	role := fmt.Sprintf(`{"metadata": {"name": %q}, "rules": [%s]}`, "test-"+user, strings.Join(rules, ","))
	if status, _ := c.api("POST", rbac+"clusterroles", role); status == http.StatusConflict {
		c.must("PUT", rbac+"clusterroles/test-"+user, role)
	}
	c.api("POST", rbac+"clusterrolebindings", fmt.Sprintf(`{"metadata": {"name": %q}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": %q},
		"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": %q}]}`, "test-"+user, "test-"+user, user))
}

func rule(resource, verbs string, names ...string) string {
	r := fmt.Sprintf(`{"apiGroups": ["certificates.k8s.io"], "resources": [%q], "verbs": [%q]`, resource, verbs)
	if len(names) > 0 {
		r += fmt.Sprintf(`, "resourceNames": [%q]`, names[0])
	}
	return r + "}"
}

const csrs = "certificatesigningrequests"

func testForbidden(t *testing.T, c cluster) {
	kubeconfig := c.user("requester", "nobodies")
	text := strings.Replace(proxiedSpec, "clients: {kubernetes:", "near: {ca: {commonName: near, files: {combined: near.pem}}}\n  clients: {kubernetes:", 1) +
		"  local: {issuer: near, commonName: local, files: {combined: local.pem}}\n"
	p := newProject(t, kubeconfig, text)
	create, get := rule(csrs, "create"), rule(csrs, "get")
	update, approve := rule(csrs+"/approval", "update"), rule("signers", "approve", "kubernetes.io/kube-apiserver-client")
	for _, test := range []struct {
		rules []string
		says  []string
	}{
		{nil, []string{"forbids it", `cannot create resource "` + csrs + `"`,
			"hint: add to a ClusterRole of this user: {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [create]}"}},
		{[]string{create}, []string{"cannot get resource", "resources: [certificatesigningrequests], verbs: [get]}"}},
		{[]string{create, get}, []string{"approve it:", "cannot update resource", "resources: [certificatesigningrequests/approval], verbs: [update]}"}},
		{[]string{create, get, update}, []string{"approve it:", "not permitted", "resources: [signers], resourceNames: [kubernetes.io/kube-apiserver-client], verbs: [approve]}"}},
	} {
		c.rules("requester", test.rules...)
		eventually(t, func() error {
			out, code := p.certsync("apply", "--yes")
			if len(test.rules) == 1 && code == 1 && !strings.Contains(out, "cannot get") {
				// What is made is not looked at at once: the plan has to.
				out, code = p.certsync("plan")
			}
			for _, s := range test.says {
				if code != 1 || !strings.Contains(out, s) {
					return fmt.Errorf("with %v: exit code %d, want it to say %q:\n%s", test.rules, code, s, out)
				}
			}
			return nil
		})
		if _, err := os.Stat(p.path("local.pem")); err != nil {
			t.Errorf("what does not need the cluster: %v", err)
		}
	}
	if n := len(c.csrs()); n != 1 {
		t.Errorf("%d requests", n)
	}
	// With the right to approve it is done; it may be neither watched nor removed,
	// and need not be.
	c.rules("requester", create, get, update, approve)
	eventually(t, func() error {
		if out, code := p.certsync("apply", "--yes", "--wait=20s"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	p.want(0, plan)
	p.pair("jane.crt", "jane.key")
	if n := len(c.csrs()); n != 1 {
		t.Errorf("%d requests: who may not remove it leaves it", n)
	}
	c.clear()
}

// With a key that is kept, a renewal may sign the very CSR that the request before it
// had, which is still there where certsync may not remove it.
func testKeptKey(t *testing.T, c cluster) {
	kubeconfig := c.user("keeper", "nobodies")
	c.rules("keeper", rule(csrs, "create"), rule(csrs, "get"), rule(csrs+"/approval", "update"), rule("signers", "approve", "kubernetes.io/kube-apiserver-client"))
	p := newProject(t, kubeconfig, strings.Replace(proxiedSpec, "files:", "privateKey: {algorithm: RSA, rotationPolicy: Never}, files:", 1))
	eventually(t, func() error {
		if out, code := p.certsync("apply", "--yes", "--wait=20s"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	cert, key := p.read("jane.crt"), p.read("jane.key")
	p.skip = 20 * time.Hour
	p.want(0, []string{"apply", "--yes", "--wait=20s"}, "RenewalDue", "1 done")
	if bytes.Equal(cert, p.read("jane.crt")) {
		t.Error("the certificate is the one that it replaces")
	}
	if !bytes.Equal(key, p.read("jane.key")) {
		t.Error("the key is another one")
	}
	if n := len(c.csrs()); n != 2 {
		t.Errorf("%d requests", n)
	}
	c.clear()
}

func testUnauthorized(t *testing.T, c cluster) {
	stranger := newProject(t, "none", "issuers:\n  strangers: {ca: {commonName: kubernetes, files: {combined: ca.pem}}}\n"+
		"certificates:\n  stranger: {issuer: strangers, profile: client, commonName: jane, kubeconfig: {path: kubeconfig, server: \""+c.URL+"\", ca: "+
		filepath.Join(c.Dir, "pki", "ca.crt")+"}}\n")
	stranger.want(0, apply)
	p := newProject(t, stranger.path("kubeconfig"), proxiedSpec)
	p.want(1, apply, "does not accept the credentials", "hint: they may have expired")
}

func testUnreachable(t *testing.T, c cluster) {
	text := strings.Replace(proxiedSpec, "clients: {kubernetes:", "near: {ca: {commonName: near, files: {combined: near.pem}}}\n  clients: {kubernetes:", 1) +
		"  local: {issuer: near, commonName: local, files: {combined: local.pem}}\n"
	many := text + `  many-${each.key}:
    forEach: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t]
    issuer: clients
    commonName: ${each.key}
    profile: client
    files: {combined: "${each.key}.pem"}
`
	// Nobody listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := newProject(t, kubeconfigOf(t, "https://"+address), text)
	p.want(1, apply, "cannot be reached at https://"+address, "2 done, 1 failed")
	p.want(1, plan, "cannot be reached")
	if _, err := os.Stat(p.path("local.pem")); err != nil {
		t.Errorf("what does not need the cluster: %v", err)
	}

	// Somebody listens, and never answers: it ends all the same, and not once for
	// each certificate.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p = newProject(t, kubeconfigOf(t, "http://"+silent.Addr().String()), many)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "apply", "--yes")
	cmd.Args[0] = "certsync"
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("no answer within 10s")) || !bytes.Contains(out, []byte("2 done, 21 failed")) {
		t.Errorf("%v\n%s", err, out)
	}

	// A password in the address is nobody's business.
	p = newProject(t, kubeconfigOf(t, "https://me:sesame@"+address), text)
	if out := p.want(1, apply, "cannot be reached at https://me:xxxxx@"+address); strings.Contains(out, "sesame") {
		t.Errorf("the password is told:\n%s", out)
	}

	// The credentials come from a command that does not end.
	p = newProject(t, "plugin.conf", text)
	p.write("plugin.conf", `{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
		clusters: [{name: a, cluster: {server: "https://`+address+`"}}],
		users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sleep, args: ["20"], interactiveMode: Never}}}]}`)
	p.want(1, apply, "no answer within 10s", "hint: the kubeconfig gets its credentials from sleep", "2 done, 1 failed")

	// Something else answers.
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	p = newProject(t, kubeconfigOf(t, web.URL), text)
	p.want(1, apply, "has no certificates.k8s.io/v1")
	p.want(1, plan, "has no certificates.k8s.io/v1") // which is not the absence of a request

	// A kubeconfig that is none.
	p = newProject(t, filepath.Join(p.dir, "nowhere"), text)
	p.want(1, apply, "nowhere: no such file")
	p.write("nowhere", "apiVersion: v1\nkind: Config\ncurrent-context: gone\n")
	p.want(1, apply, "cluster \"kubetest\"")
}
