package kubernetes_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certsync/certsync/reconcile"
)

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
