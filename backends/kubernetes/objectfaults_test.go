package kubernetes_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile"
)

// patches returns a verdict for the writes to objects whose path has the end.
func patches(what verdict, end string) func(r *http.Request) verdict {
	return func(r *http.Request) verdict {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, end) {
			return what
		}
		return pass
	}
}

// testUnsure has the apiserver fail, again and again, in a way that leaves open
// whether the Secret was written: nobody else is blamed for it, and it goes on once
// the apiserver does.
func testUnsure(t *testing.T, l *lab) {
	defer l.failing(nil)
	for name, text := range map[string]string{"alone": oneSecret, "with files": secretAndFiles} {
		for _, what := range []verdict{failing, forbidden} {
			w := l.newWorld(t, text)
			w.applyOK(reconcile.Options{})
			old := w.pair("web-tls")
			w.now = old.NotAfter.Add(-time.Hour)
			l.failing(patches(what, "/web-tls"))
			for range 5 {
				if w.apply(reconcile.Options{})["certificates.web"].Err == nil {
					t.Fatal("no error")
				}
				if text := describe(w.plan(reconcile.Options{})); strings.Contains(text, "another certsync") {
					t.Fatalf("%s: blames another: %s", name, text)
				}
				w.same(w.pair("web-tls"), old)
			}
			l.failing(nil)
			w.applyOK(reconcile.Options{})
			w.converged()
			if w.pair("web-tls").Equal(old) {
				t.Errorf("%s: it was not renewed", name)
			}
		}
	}
}

// testKeyFirst keeps the Secret from being written that alone holds the key: the
// certificate goes nowhere without it.
func testKeyFirst(t *testing.T, l *lab) {
	defer l.failing(nil)
	for name, text := range map[string]string{
		"file":      "issuers: {root: {ca: {commonName: root, files: {certificate: ca.crt}, secret: {cluster: lab, namespace: NS, name: root-ca}}}}\n",
		"ConfigMap": "issuers: {root: {ca: {commonName: root, configMap: {cluster: lab, namespace: NS, name: root-ca}, secret: {cluster: lab, namespace: NS, name: root-ca}}}}\n",
	} {
		for _, what := range []verdict{forbidden, refused, failing} {
			w := l.newWorld(t, text)
			l.failing(patches(what, "/secrets/root-ca"))
			if w.apply(reconcile.Options{})["issuers.root"].Err == nil {
				t.Fatal("no error")
			}
			if _, err := os.Stat(w.path("ca.crt")); err == nil {
				t.Errorf("%s: a certificate without a key", name)
			}
			if status, _ := w.call(t, "GET", w.objectPath("configmaps", "root-ca"), "", ""); status != http.StatusNotFound {
				t.Errorf("%s: a ConfigMap without a key: %d", name, status)
			}
			l.failing(nil)
			w.wants("issuers.root", reconcile.ActionCreate)
			w.applyOK(reconcile.Options{})
			w.converged()
		}
		// The answer is lost, but the Secret is there.
		w := l.newWorld(t, text)
		l.failing(patches(dropped, "/secrets/root-ca"))
		if w.apply(reconcile.Options{})["issuers.root"].Err == nil {
			t.Fatal("no error")
		}
		l.failing(nil)
		cert := w.pair("root-ca")
		w.applyOK(reconcile.Options{})
		w.converged()
		w.same(w.pair("root-ca"), cert)
	}
}

// testOtherKey changes the only key of a ConfigMap, and prunes at the same time.
func testOtherKey(t *testing.T, l *lab) {
	w := l.newWorld(t, `issuers:
  root: {ca: {commonName: root, files: {certificate: ca.crt, privateKey: ca.key}, configMap: {cluster: lab, namespace: NS, name: root-ca}}}
`)
	w.applyOK(reconcile.Options{})
	w.edit("name: root-ca}", "name: root-ca, key: root.pem}")
	w.applyOK(reconcile.Options{Prune: true})
	w.converged()
	if p := w.plan(reconcile.Options{Prune: true}); !p.Empty() {
		t.Errorf("%s", describe(p))
	}
	bundle := string(w.must(t, "GET", w.objectPath("configmaps", "root-ca"), "", ""))
	if !strings.Contains(bundle, `"root.pem":`) || strings.Contains(bundle, `"ca.crt":`) {
		t.Errorf("the ConfigMap is %s", bundle)
	}
}

// testStrangeAnswers has something else than the apiserver answer: what it says is
// not taken for the absence of anything.
func testStrangeAnswers(t *testing.T, l *lab) {
	defer l.failing(nil)
	w := l.newWorld(t, rootCA+"certificates: {\"web-${each.key}\": {forEach: [a, b, c, d, e], secret: {cluster: lab, namespace: NS, name: \"${certificate.name}\"}}}\n")
	w.applyOK(reconcile.Options{})
	for _, test := range []func(r *http.Request) bool{
		func(r *http.Request) bool { return r.URL.Query().Has("limit") },
		func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/web-a") },
	} {
		l.failing(func(r *http.Request) verdict {
			switch {
			case test(r):
				return strange
			case r.URL.Query().Has("limit"):
				return forbidden // so that all are got one by one
			}
			return pass
		})
		w.wants("certificates.web-a", reconcile.ActionNone, "the answer has another form than expected")
		l.failing(nil)
		w.converged()
	}
	// Who may list only what has the label.
	for _, name := range []string{"web-a", "web-b", "web-c", "web-d"} {
		w.patch(name, "kubectl-label", meta("labels", map[string]any{"app.kubernetes.io/managed-by": "helm"}))
	}
	l.failing(func(r *http.Request) verdict {
		if r.URL.Query().Has("limit") && !r.URL.Query().Has("labelSelector") {
			return forbidden
		}
		return pass
	})
	if p := w.plan(reconcile.Options{}); p.Counts.Repair != 4 || p.Counts.Failed != 0 {
		t.Errorf("%s", describe(p))
	}
}
