package kubernetes_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile"
)

func testNamespaces(t *testing.T, l *lab) {
	w := l.newWorld(t, oneSecret+`  files: {files: {certificate: f.crt, privateKey: f.key}}
`)
	exists := w.namespace
	w.namespace = "test-nowhere"
	it := w.wants("certificates.web", reconcile.ActionNone, `namespace "test-nowhere" does not exist`)
	if !strings.Contains(it.Hint, "create namespace test-nowhere") {
		t.Errorf("hint %q", it.Hint)
	}
	results := w.apply(reconcile.Options{})
	if results["certificates.web"].Err == nil || results["certificates.files"].Err != nil {
		t.Errorf("results %v", results)
	}
	w.namespace = exists
	w.applyOK(reconcile.Options{})
	w.converged()

	// A namespace that is being deleted takes nothing new. It stays so for as long as
	// something in it has a finalizer.
	w.must(t, "POST", "/api/v1/namespaces/"+w.namespace+"/configmaps", "application/json",
		`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stays", "finalizers": ["example.com/stay"]}}`)
	w.must(t, "DELETE", "/api/v1/namespaces/"+w.namespace, "", "")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _ := w.call(t, "GET", w.secretPath("web-tls"), "", ""); status == http.StatusNotFound {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the Secret is still there")
		}
	}
	w.wants("certificates.web", reconcile.ActionNone, "is being deleted")
	w.must(t, "PATCH", w.objectPath("configmaps", "stays"), "application/merge-patch+json", `{"metadata": {"finalizers": null}}`)
}

// testForbidden takes one right after the other away.
func testForbidden(t *testing.T, l *lab) {
	users := fmt.Sprintf(`apiVersion: certsync/v1
certificates:
  clerk: {profile: client, commonName: clerk, kubeconfig: {path: clerk.conf, server: %q, ca: pki/ca.crt}}
`, l.plane.URL)
	if err := os.WriteFile(filepath.Join(l.plane.Dir, "clerk.yaml"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := l.plane.Certsync(t.Context(), "apply", "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w := l.newWorld(t, secretAndFiles+`  files: {files: {certificate: f.crt, privateKey: f.key}}
`)
	w.kubeconfig = l.plane.Kubeconfig("clerk")
	grant := func(verbs string) {
		t.Helper()
		w.call(t, "DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/"+w.namespace+"/roles/clerk", "", "")
		w.must(t, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/"+w.namespace+"/roles", "application/json", fmt.Sprintf(
			`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "clerk"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": [%s]}]}`, verbs))
	}
	bind := func() {
		t.Helper()
		w.must(t, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/"+w.namespace+"/rolebindings", "application/json",
			`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "clerk"},
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "clerk"}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "clerk"}]}`)
	}
	bind()
	settle := func(check func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !check(); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the rights do not change")
			}
		}
	}
	hints := func(err error, verb string) bool {
		return err != nil && strings.Contains(err.Error(), `User "clerk" cannot `+verb+` resource "secrets"`) &&
			strings.Contains(hintOf(err), `{apiGroups: [""], resources: [secrets], verbs: [`+verb+`]}`) && strings.Contains(hintOf(err), w.namespace)
	}

	it := w.wants("certificates.web", reconcile.ActionNone, `User "clerk" cannot get resource "secrets"`)
	if !strings.Contains(it.Hint, "verbs: [get]") || !strings.Contains(it.Hint, "namespace "+w.namespace) {
		t.Errorf("hint %q", it.Hint)
	}
	w.quietly(func() {
		if results := w.apply(reconcile.Options{Names: []string{"web", "root"}}); results["certificates.web"].Err == nil {
			t.Error("applied without rights")
		}
	})
	results := w.apply(reconcile.Options{})
	if results["certificates.files"].Err != nil {
		t.Errorf("the others are held up: %v", results["certificates.files"].Err)
	}

	// Who may not list gets what there is one by one.
	many := l.newWorld(t, rootCA+"certificates: {\"web-${each.key}\": {forEach: [a, b, c, d, e], secret: {cluster: lab, namespace: NS, name: \"${certificate.name}\"}}}\n")
	many.applyOK(reconcile.Options{})
	was := w.namespace
	w.namespace = many.namespace
	bind()
	grant(`"get"`)
	many.kubeconfig = w.kubeconfig
	settle(func() bool { return many.plan(reconcile.Options{}).Counts.Unchanged == 6 })
	w.namespace = was

	grant(`"get"`)
	settle(func() bool { return hints(w.apply(reconcile.Options{})["certificates.web"].Err, "patch") })
	// The files are written; what the Secret lacks is no reason to issue again.
	cert := w.filePair("web.crt", "web.key")
	w.wants("certificates.web", reconcile.ActionRepair, "is missing")
	grant(`"get", "patch"`)
	w.quietly(func() {
		settle(func() bool { return hints(w.apply(reconcile.Options{})["certificates.web"].Err, "create") })
	})
	grant(`"get", "patch", "create"`)
	w.quietly(func() { settle(func() bool { return w.apply(reconcile.Options{})["certificates.web"].Err == nil }) })
	w.same(w.pair("web-tls"), cert)
	w.converged()

	w.edit("  web:\n    files: {certificate: web.crt, privateKey: web.key}\n    secret: {cluster: lab, namespace: NS, name: web-tls}\n", "")
	if err := w.apply(reconcile.Options{Prune: true})["certificates.web"].Err; !hints(err, "delete") {
		t.Errorf("prune: %v; hint %q", err, hintOf(err))
	}
	if _, err := os.Stat(w.path("web.key")); err != nil {
		t.Error("a prune that failed removed files")
	}
	grant(`"get", "patch", "create", "delete"`)
	settle(func() bool { return w.apply(reconcile.Options{Prune: true})["certificates.web"].Err == nil })
	if status, _ := w.call(t, "GET", w.secretPath("web-tls"), "", ""); status != http.StatusNotFound {
		t.Errorf("the Secret is there: %d", status)
	}
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// testBroken ends an apply at each of its calls, before the apiserver sees it and
// after, as if certsync were killed there: every place holds a whole pair, and the
// next apply makes all of them the same without issuing more than was due.
func testBroken(t *testing.T, l *lab) {
	for name, text := range map[string]string{"files and a Secret": secretAndFiles, "two Secrets": twoSecrets} {
		for _, how := range []verdict{refused, dropped} {
			t.Run(fmt.Sprint(name, " ", how), func(t *testing.T) {
				for nth := int64(1); ; nth++ {
					w := l.newWorld(t, text)
					w.applyOK(reconcile.Options{})
					places := func() (certs []*x509.Certificate) {
						if text == twoSecrets {
							return append(certs, w.pair("web-a"), w.pair("web-b"))
						}
						return append(certs, w.pair("web-tls"), w.filePair("web.crt", "web.key"))
					}
					old := places()[0]
					w.now = old.NotAfter.Add(-24 * time.Hour)
					var patches atomic.Int64
					l.failing(func(r *http.Request) verdict {
						if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, w.namespace) {
							if n := patches.Add(1); n >= nth { // all that follow, too: it is dead
								if n == nth {
									return how
								}
								return refused
							}
						}
						return pass
					})
					result := w.apply(reconcile.Options{})["certificates.web"]
					l.failing(nil)
					if patches.Load() < nth {
						if nth == 1 {
							t.Fatal("nothing was written")
						}
						break
					}
					if result.Err == nil {
						t.Fatal("no error")
					}
					placed := false
					for _, cert := range places() { // each is whole
						placed = placed || !cert.Equal(old)
					}
					issued := w.issued.Load()
					w.applyOK(reconcile.Options{})
					w.converged()
					again := places()
					w.same(again[0], again[1])
					if again[0].Equal(old) {
						t.Error("the old one came back")
					}
					if n := w.issued.Load() - issued; placed && n > 0 {
						t.Errorf("at call %d: issued %d more, though the new one was there", nth, n)
					}
				}
			})
		}
	}
}

// testMany shows that what is as it should be costs few calls, however much it is.
func testMany(t *testing.T, l *lab) {
	const n = 520 // more than a page
	w := l.newWorld(t, rootCA+fmt.Sprintf(`certificates:
  web-${each.key}:
    forEach: [%s]
    secret: {cluster: lab, namespace: NS, name: "${certificate.name}"}
`, strings.Trim(numbers(n), ", ")))
	l.counted()
	var written, most atomic.Int64
	l.failing(func(r *http.Request) verdict {
		if r.Method == http.MethodPatch {
			ahead := w.issued.Load() - written.Add(1)
			for was := most.Load(); ahead > was && !most.CompareAndSwap(was, ahead); was = most.Load() {
			}
		}
		return pass
	})
	w.applyOK(reconcile.Options{})
	l.failing(nil)
	if n := most.Load(); n > 4*64 {
		t.Errorf("%d certificates were issued ahead of the writes", n)
	}
	calls := l.counted()
	if len(calls) > n+10 {
		t.Errorf("%d calls to make %d Secrets", len(calls), n)
	}
	if l.most > 16 || l.most < 2 {
		t.Errorf("%d Secrets were written at once", l.most)
	}
	w.converged()
	calls = l.counted()
	if len(calls) > 5 {
		t.Errorf("a plan without anything to do took %d calls: %v", len(calls), calls[:6])
	}
	for _, call := range calls {
		if !strings.HasPrefix(call, "GET ") || !strings.Contains(call, "limit=") {
			t.Errorf("call %s", call)
		}
	}
	// A few that the list does not show are looked for.
	w.patch("web-7", "kubectl-label", meta("labels", map[string]any{"app.kubernetes.io/managed-by": "helm"}))
	w.must(t, "DELETE", w.secretPath("web-9"), "", "")
	l.counted()
	p := w.plan(reconcile.Options{})
	if p.Counts.Repair != 1 || p.Counts.Create != 1 || p.Counts.Failed != 0 {
		t.Errorf("%s", describe(p))
	}
	if calls = l.counted(); len(calls) > 8 {
		t.Errorf("%d calls: %v", len(calls), calls)
	}
	// A list whose second page comes too late.
	l.failing(func(r *http.Request) verdict {
		if r.URL.Query().Get("continue") != "" {
			return expired
		}
		return pass
	})
	defer l.failing(nil)
	if again := w.plan(reconcile.Options{}); again.Counts != p.Counts {
		t.Errorf("%+v, then %+v", p.Counts, again.Counts)
	}
}

func numbers(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "%d, ", i)
	}
	return s.String()
}

// testNamespaceLists has one Secret in each of many namespaces: all are listed at
// once, by who may do that.
func testNamespaceLists(t *testing.T, l *lab) {
	w := l.newWorld(t, "")
	names := []string{w.namespace}
	for range 7 {
		names = append(names, l.newWorld(t, "").namespace)
	}
	w.write("certsync.yaml", rootCA+fmt.Sprintf(`certificates:
  web-${each.key}: {forEach: [%s], secret: {cluster: lab, namespace: "${each.key}", name: web-tls}}
`, strings.Join(names, ", ")))
	w.applyOK(reconcile.Options{})
	l.counted()
	w.converged()
	for _, call := range l.counted() { // a page each: there are those of other tests
		if !strings.HasPrefix(call, "GET /api/v1/secrets?") {
			t.Errorf("call %s", call)
		}
	}
	l.failing(func(r *http.Request) verdict {
		if r.URL.Path == "/api/v1/secrets" {
			return forbidden
		}
		return pass
	})
	defer l.failing(nil)
	w.converged()
	if calls := l.counted(); len(calls) != 1+len(names) {
		t.Errorf("calls %v", calls)
	}
}

// testRemote has a signer of the cluster sign for Secrets. Its answer is not lost,
// nor asked for again, if the Secrets cannot be written.
func testRemote(t *testing.T, l *lab) {
	w := l.newWorld(t, fmt.Sprintf(`issuers:
  users: {kubernetes: {cluster: lab, signerName: kubernetes.io/kube-apiserver-client, approve: true, ca: %q}}
certificates:
  jane:
    issuer: users
    commonName: jane
    usages: [digital signature, client auth]
    secret: [{cluster: lab, namespace: NS, name: jane-a}, {cluster: lab, namespace: NS, name: jane-b}]
`, filepath.Join(l.plane.Dir, "pki", "ca.crt")))
	requests := func() (n int) {
		for _, call := range l.counted() {
			if strings.HasPrefix(call, "POST /apis/certificates.k8s.io/v1/certificatesigningrequests") {
				n++
			}
		}
		return n
	}
	l.counted()
	for _, path := range []string{"jane-", "jane-b"} { // neither, then one of them
		l.failing(func(r *http.Request) verdict {
			if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, path) {
				return refused
			}
			return pass
		})
		if w.apply(reconcile.Options{})["certificates.jane"].Err == nil {
			t.Fatal("no error")
		}
	}
	cert := w.pair("jane-a")
	l.failing(nil)
	w.applyOK(reconcile.Options{})
	w.converged()
	w.same(w.pair("jane-a"), cert)
	w.same(w.pair("jane-b"), cert)
	if n := requests(); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
	if cert.Subject.CommonName != "jane" {
		t.Errorf("subject %s", cert.Subject)
	}
}

func testUnreachable(t *testing.T, l *lab) {
	w := l.newWorld(t, secretAndFiles+`  files: {files: {certificate: f.crt, privateKey: f.key}}
`)
	w.applyOK(reconcile.Options{})
	cert := w.filePair("web.crt", "web.key")
	w.now = cert.NotAfter.Add(-time.Hour)
	other := l.kubeconfig
	w.kubeconfig = w.path("down.conf")
	text, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	w.write("down.conf", strings.Replace(string(text), l.proxy.URL, "https://127.0.0.1:1", 1))
	w.wants("certificates.web", reconcile.ActionNone, "cannot be reached at https://127.0.0.1:1", "connection refused")
	results := w.apply(reconcile.Options{})
	if results["certificates.web"].Err == nil || results["certificates.files"].Err != nil {
		t.Errorf("results %v", results)
	}
	w.same(w.filePair("web.crt", "web.key"), cert)

	// It is there, but does not know who asks.
	w.write("stranger.conf", strings.NewReplacer(l.proxy.URL, l.plane.URL,
		"cluster: {server", fmt.Sprintf("cluster: {certificate-authority: %q, server", filepath.Join(l.plane.Dir, "pki", "ca.crt"))).Replace(string(text)))
	w.kubeconfig = w.path("stranger.conf")
	it := w.wants("certificates.web", reconcile.ActionNone, "does not accept the credentials")
	if it.Hint == "" {
		t.Error("no hint")
	}
	w.same(w.filePair("web.crt", "web.key"), cert)
	w.kubeconfig = other
	w.applyOK(reconcile.Options{})
	w.converged()
	w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
}
