package kubernetes_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/kubernetes"
	"github.com/certsync/certsync/backends/kubernetes/kubetest"
	"github.com/certsync/certsync/backends/localca"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// lab is a control plane that tests share, and a way to it on which calls are
// counted and can be made to fail.
type lab struct {
	plane      *kubetest.ControlPlane
	admin      *http.Client
	proxy      *httptest.Server
	kubeconfig string

	namespaces atomic.Int64
	mu         sync.Mutex
	calls      []string // METHOD PATH?QUERY
	open, most int      // patches under way, and the most that ever were
	// fail, if set, answers a call before the apiserver sees it, or with dropped
	// after that.
	fail func(r *http.Request) verdict
}

// verdict is what becomes of a call.
type verdict int

const (
	pass      verdict = iota
	refused           // the connection breaks, the apiserver sees nothing
	dropped           // the apiserver does it, the answer gets lost
	expired           // as the apiserver answers when a list took too long
	forbidden         // and who may not do it
	failing           // and when a webhook is down
	strange           // something else answers
)

func newLab(t *testing.T) *lab {
	l := &lab{plane: kubetest.Start(t)}
	config, err := l.plane.TLS("ca", "super-admin")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	l.admin = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	target, err := url.Parse(l.plane.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	l.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.calls = append(l.calls, r.Method+" "+r.URL.RequestURI())
		fail := l.fail
		if r.Method == http.MethodPatch {
			l.open++
			l.most = max(l.most, l.open)
			defer func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.open--
			}()
		}
		l.mu.Unlock()
		what := pass
		if fail != nil {
			what = fail(r)
		}
		switch what {
		case strange:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"status": "ok"}`)
			return
		case expired, forbidden, failing:
			code, reason := http.StatusGone, "Expired"
			switch what {
			case forbidden:
				code, reason = http.StatusForbidden, "Forbidden"
			case failing:
				code, reason = http.StatusInternalServerError, "InternalError"
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "message": "as the test wants it", "code": %d}`, reason, code)
			return
		case refused:
			panic(http.ErrAbortHandler)
		case dropped:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(l.proxy.Close)
	l.kubeconfig = filepath.Join(l.plane.Dir, "proxy.conf")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: %q}}]
users: [{name: a, user: {}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
`, l.proxy.URL)
	if err := os.WriteFile(l.kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// counted returns the calls since the last time.
func (l *lab) counted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

func (l *lab) failing(f func(r *http.Request) verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = f
}

// call is an API call of somebody who is not certsync.
func (l *lab) call(t *testing.T, method, path, contentType, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, l.plane.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	answer, err := l.admin.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, text
}

// must is a call that has to succeed.
func (l *lab) must(t *testing.T, method, path, contentType, body string) []byte {
	t.Helper()
	status, text := l.call(t, method, path, contentType, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d: %s", method, path, status, text)
	}
	return text
}

// objectWorld is a directory with a spec and a namespace, worked on by the real
// engine and the real backends.
type objectWorld struct {
	*lab
	t          *testing.T
	dir        string
	now        time.Time
	namespace  string
	kubeconfig string
	issued     atomic.Int64
}

// newWorld makes a world. In the spec, NS is the namespace, and KUBECONFIG how to
// get there.
func (l *lab) newWorld(t *testing.T, text string) *objectWorld {
	t.Helper()
	w := &objectWorld{lab: l, t: t, dir: t.TempDir(), now: time.Now().Truncate(time.Second), kubeconfig: l.kubeconfig,
		namespace: fmt.Sprintf("test-%d", l.namespaces.Add(1))}
	l.must(t, "POST", "/api/v1/namespaces", "application/json",
		fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q}}`, w.namespace))
	w.write("certsync.yaml", text)
	return w
}

func (w *objectWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *objectWorld) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// edit replaces text in the spec.
func (w *objectWorld) edit(from, to string) {
	w.t.Helper()
	text, err := os.ReadFile(w.path("certsync.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		w.t.Fatalf("the spec does not contain %q", from)
	}
	w.write("certsync.yaml", strings.ReplaceAll(string(text), from, to))
}

func (w *objectWorld) spec() *spec.Spec {
	w.t.Helper()
	text, err := os.ReadFile(w.path("certsync.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	head := "apiVersion: certsync/v1\n"
	if !strings.Contains(string(text), "clusters:") {
		head += "clusters: {lab: {kubeconfig: KUBECONFIG}}\n"
	}
	text = []byte(strings.NewReplacer("NS", w.namespace, "KUBECONFIG", w.kubeconfig).Replace(head + string(text)))
	if err := os.WriteFile(w.path("resolved.yaml"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	sp, err := spec.Load([]string{w.path("resolved.yaml")}, spec.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return sp
}

// opener opens each cluster once.
func opener() func(*spec.Cluster) (*kubernetes.Cluster, error) {
	var mu sync.Mutex
	open := map[string]*kubernetes.Cluster{}
	return func(c *spec.Cluster) (*kubernetes.Cluster, error) {
		mu.Lock()
		defer mu.Unlock()
		key := fmt.Sprintf("%+v", c)
		if open[key] == nil {
			cluster, err := kubernetes.Open(c)
			if err != nil {
				return nil, err
			}
			open[key] = cluster
		}
		return open[key], nil
	}
}

func (w *objectWorld) backends() (reconcile.Backends, *files.Store) {
	w.t.Helper()
	store, err := files.Open(w.path("state"), files.WithClock(func() time.Time { return w.now }))
	if err != nil {
		w.t.Fatal(err)
	}
	open := opener()
	b := reconcile.Backends{Store: store, Objects: kubernetes.NewObjects(open), Password: files.Secret}
	b.OpenRemote = func(_ context.Context, i *spec.Issuer) (reconcile.Remote, error) {
		c, err := open(i.Kubernetes.Cluster)
		if err != nil {
			return nil, err
		}
		return kubernetes.NewIssuer(c, i.Kubernetes), nil
	}
	b.Anchors = func(_ context.Context, i *spec.Issuer) ([]*x509.Certificate, error) {
		text, err := os.ReadFile(i.Kubernetes.CA)
		if err != nil {
			return nil, err
		}
		return pki.ParseCertificates(text)
	}
	b.OpenIssuer = func(ctx context.Context, i *spec.Issuer, ca *x509.Certificate) (reconcile.Issuer, error) {
		next, err := localca.Open(ctx, b, i.CA, ca, files.Secret)
		return counting{next, w}, err
	}
	return b, store
}

// counting counts what an issuer is asked.
type counting struct {
	reconcile.Issuer
	w *objectWorld
}

func (c counting) Issue(ctx context.Context, r pki.Request) (pki.Chain, error) {
	c.w.issued.Add(1)
	return c.Issuer.Issue(ctx, r)
}

func (w *objectWorld) plan(o reconcile.Options) *reconcile.Plan {
	w.t.Helper()
	b, _ := w.backends()
	sp := w.spec()
	state, err := reconcile.Observe(context.Background(), sp, b)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := reconcile.Diff(sp, state, o, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// apply does what the command does, and returns the results by path in the spec.
func (w *objectWorld) apply(o reconcile.Options) map[string]reconcile.Result {
	w.t.Helper()
	b, store := w.backends()
	release, err := store.Lock("test")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := release(); err != nil {
			w.t.Error(err)
		}
	}()
	if _, err := store.Recover(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	sp := w.spec()
	state, err := reconcile.Observe(context.Background(), sp, b)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := reconcile.Diff(sp, state, o, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	results := make(map[string]reconcile.Result)
	for _, r := range reconcile.Apply(context.Background(), sp, state, p, b, reconcile.ApplyOptions{Now: func() time.Time { return w.now }}) {
		results[r.ID().String()] = r
	}
	return results
}

func (w *objectWorld) applyOK(o reconcile.Options) map[string]reconcile.Result {
	w.t.Helper()
	results := w.apply(o)
	for id, r := range results {
		if r.Err != nil {
			w.t.Fatalf("%s: %v", id, r.Err)
		}
	}
	return results
}

// converged fails the test unless there is nothing to do.
func (w *objectWorld) converged() {
	w.t.Helper()
	if p := w.plan(reconcile.Options{}); !p.Empty() || p.Counts.Failed > 0 {
		w.t.Fatalf("the plan is not empty: %s", describe(p))
	}
}

// describe tells a plan in short.
func describe(p *reconcile.Plan) string {
	var parts []string
	for i := range p.Items {
		it := &p.Items[i]
		if it.Error != "" {
			parts = append(parts, fmt.Sprintf("%s: error: %s (hint: %s)", it.ID(), it.Error, it.Hint))
			continue
		}
		if it.Action == reconcile.ActionNone && len(it.Warnings) == 0 {
			continue
		}
		text := fmt.Sprintf("%s: %s", it.ID(), it.Action)
		for _, r := range it.Reasons {
			text += fmt.Sprintf(" [%s: %s]", r.Code, r.Message)
		}
		for _, warning := range it.Warnings {
			text += fmt.Sprintf(" (warning: %s)", warning)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "\n")
}

// wants fails the test unless the plan has the action for the certificate, and its
// description the words.
func (w *objectWorld) wants(id string, action reconcile.Action, words ...string) *reconcile.Item {
	w.t.Helper()
	p := w.plan(reconcile.Options{})
	i := slices.IndexFunc(p.Items, func(it reconcile.Item) bool { return it.ID().String() == id })
	if i < 0 || p.Items[i].Action != action {
		w.t.Fatalf("want %s for %s, got %s", action, id, describe(p))
	}
	for _, word := range words {
		if !strings.Contains(describe(p), word) {
			w.t.Fatalf("no %q in: %s", word, describe(p))
		}
	}
	return &p.Items[i]
}

// secret is a Secret as the apiserver has it.
type secret struct {
	Metadata struct {
		Name, UID, ResourceVersion string
		Labels, Annotations        map[string]string
	}
	Type      string
	Immutable bool
	Data      map[string][]byte
}

func (w *objectWorld) objectPath(kind, name string) string {
	return "/api/v1/namespaces/" + w.namespace + "/" + kind + "/" + name
}

func (w *objectWorld) secretPath(name string) string { return w.objectPath("secrets", name) }

func (w *objectWorld) get(name string) secret {
	w.t.Helper()
	var s secret
	if err := json.Unmarshal(w.must(w.t, "GET", w.secretPath(name), "", ""), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// patch changes a Secret as somebody else.
func (w *objectWorld) patch(name, manager string, patch any) {
	w.t.Helper()
	body, err := json.Marshal(patch)
	if err != nil {
		w.t.Fatal(err)
	}
	w.must(w.t, "PATCH", w.secretPath(name)+"?fieldManager="+manager, "application/merge-patch+json", string(body))
}

// create makes a Secret as somebody else.
func (w *objectWorld) create(name, manager, kind string, data map[string][]byte) {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "type": kind,
		"metadata": map[string]string{"name": name}, "data": data})
	if err != nil {
		w.t.Fatal(err)
	}
	w.must(w.t, "POST", "/api/v1/namespaces/"+w.namespace+"/secrets?fieldManager="+manager, "application/json", string(body))
}

// pair fails the test unless the Secret holds a key and a certificate that match,
// and chain to the CA in it; it returns the certificate.
func (w *objectWorld) pair(name string) *x509.Certificate {
	w.t.Helper()
	s := w.get(name)
	if s.Type != reconcile.TypeTLS {
		w.t.Fatalf("%s is of the type %s", name, s.Type)
	}
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: w.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	o.Roots.AppendCertsFromPEM(s.Data["ca.crt"])
	for _, der := range pair.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			w.t.Fatal(err)
		}
		o.Intermediates.AddCert(cert)
	}
	if _, err := pair.Leaf.Verify(o); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return pair.Leaf
}

// filePair does the same for files.
func (w *objectWorld) filePair(cert, key string) *x509.Certificate {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(w.path(cert), w.path(key))
	if err != nil {
		w.t.Fatal(err)
	}
	return pair.Leaf
}

func (w *objectWorld) same(a, b *x509.Certificate) {
	w.t.Helper()
	if !bytes.Equal(a.Raw, b.Raw) {
		w.t.Fatal("the certificates differ")
	}
}

// quietly runs f, in which nothing may be issued.
func (w *objectWorld) quietly(f func()) {
	w.t.Helper()
	before := w.issued.Load()
	f()
	if n := w.issued.Load() - before; n > 0 {
		w.t.Fatalf("%d certificates were issued", n)
	}
}

// serves fails the test unless a server with what is in the Secret is trusted by a
// client with the CA in it, as those are to whom the Secret is mounted.
func (w *objectWorld) serves(name, host string) {
	w.t.Helper()
	s := w.get(name)
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		w.t.Fatal(err)
	}
	clock := func() time.Time { return w.now }
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, Time: clock, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Data["ca.crt"])
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host, Time: clock, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	answer, err := client.Get(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	answer.Body.Close()
}
