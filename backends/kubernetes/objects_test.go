package kubernetes_test

import (
	"crypto/tls"
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
	"github.com/certsync/certsync/spec"
)

const rootCA = `issuers:
  root: {ca: {commonName: root, files: {certificate: ca.crt, privateKey: ca.key}}}
defaults: {issuer: root, profile: server, dnsNames: [web.test.svc]}
`

const oneSecret = rootCA + `certificates:
  web: {secret: {cluster: lab, namespace: NS, name: web-tls, labels: {app: web}, annotations: {example.com/note: "a b"}}}
`

const secretAndFiles = rootCA + `certificates:
  web:
    files: {certificate: web.crt, privateKey: web.key}
    secret: {cluster: lab, namespace: NS, name: web-tls}
`

const twoSecrets = rootCA + `certificates:
  web: {secret: [{cluster: lab, namespace: NS, name: web-a}, {cluster: lab, namespace: NS, name: web-b}]}
`

func TestObjects(t *testing.T) {
	l := newLab(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, l *lab)
	}{
		{"a Secret is made and found again", testCreate},
		{"what is edited is repaired", testEdited},
		{"what is deleted or emptied", testDeleted},
		{"files and a Secret hold the same", testFilesAndSecret},
		{"a foreign Secret is left alone", testForeign},
		{"a Secret that fits is taken over", testAdopt},
		{"another manager is not fought for ever", testContest},
		{"labels of others", testMetaContest},
		{"another certsync", testOtherCertsync},
		{"types and immutable Secrets", testTypes},
		{"namespaces", testNamespaces},
		{"rights are missing", testForbidden},
		{"calls break off", testBroken},
		{"many Secrets", testMany},
		{"many namespaces", testNamespaceLists},
		{"a plan made before a change", testStale},
		{"what is read is of one generation", testGenerations},
		{"a CA in a Secret and a ConfigMap", testCA},
		{"keystores in a Secret", testKeystores},
		{"a signer of the cluster", testRemote},
		{"prune", testPrune},
		{"what has moved", testMoved},
		{"a cluster that is not there", testUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, l) })
	}
}

func testCreate(t *testing.T, l *lab) {
	w := l.newWorld(t, oneSecret)
	w.wants("certificates.web", reconcile.ActionCreate, "no certificate yet")
	w.applyOK(reconcile.Options{})
	cert := w.pair("web-tls")
	w.serves("web-tls", "web.test.svc")
	s := w.get("web-tls")
	digest := w.spec().Certificates[0].Digest()
	for name, want := range map[string]string{
		reconcile.NoteCertificate: "certificates.web", reconcile.NoteIssuer: "root", reconcile.NoteSpecDigest: digest, "example.com/note": "a b",
	} {
		if got := s.Metadata.Annotations[name]; got != want {
			t.Errorf("annotation %s is %q, want %q", name, got, want)
		}
	}
	if len(s.Metadata.Annotations[reconcile.NoteFingerprint]) != 64 || s.Metadata.Labels["app"] != "web" || s.Metadata.Labels["app.kubernetes.io/managed-by"] != "certsync" {
		t.Errorf("labels %v, annotations %v", s.Metadata.Labels, s.Metadata.Annotations)
	}
	w.converged()
	if again := w.applyOK(reconcile.Options{}); len(again) != 0 || w.get("web-tls").Metadata.ResourceVersion != s.Metadata.ResourceVersion {
		t.Error("an apply that has nothing to do changed the Secret")
	}

	// Without the records everything still is as it should be.
	if err := os.RemoveAll(w.path("state")); err != nil {
		t.Fatal(err)
	}
	w.converged()

	w.now = cert.NotAfter.Add(-time.Hour)
	w.wants("certificates.web", reconcile.ActionRenew)
	w.applyOK(reconcile.Options{})
	w.converged()
	if next := w.pair("web-tls"); next.Equal(cert) {
		t.Error("it was not renewed")
	}

	// A key that is in a Secret alone is kept.
	w.edit("secret: {", "privateKey: {rotationPolicy: Never}, secret: {")
	key := string(w.get("web-tls").Data["tls.key"])
	w.applyOK(reconcile.Options{})
	w.now = w.pair("web-tls").NotAfter.Add(-time.Hour)
	w.applyOK(reconcile.Options{})
	w.converged()
	if string(w.get("web-tls").Data["tls.key"]) != key {
		t.Error("the key is another one")
	}
	// Keys do not come to this machine.
	err := filepath.WalkDir(w.path("state"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "PRIVATE KEY") && !strings.Contains(path, "issuers") {
			t.Errorf("%s holds a private key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func testEdited(t *testing.T, l *lab) {
	w := l.newWorld(t, oneSecret)
	w.applyOK(reconcile.Options{})
	cert := w.pair("web-tls")
	for _, c := range []struct {
		name, word string
		patch      map[string]any
	}{
		{"label", "has the label app=other, want web", meta("labels", map[string]any{"app": "other"})},
		{"label gone", "lacks the label app", meta("labels", map[string]any{"app": nil})},
		{"own label gone", "lacks the label app.kubernetes.io/managed-by", meta("labels", map[string]any{"app.kubernetes.io/managed-by": nil})},
		{"annotation", "has the annotation example.com/note=x, want a b", meta("annotations", map[string]any{"example.com/note": "x"})},
		{"note", "has the annotation certsync/fingerprint=x", meta("annotations", map[string]any{reconcile.NoteFingerprint: "x"})},
		{"ca.crt gone", "ca.crt is missing", map[string]any{"data": map[string]any{"ca.crt": nil}}},
		{"ca.crt", "holds another trust anchor", map[string]any{"data": map[string]any{"ca.crt": w.get("web-tls").Data["tls.crt"]}}},
		{"ca.crt malformed", "is malformed", map[string]any{"data": map[string]any{"ca.crt": []byte("x")}}},
	} {
		// Each by another manager, and all of them but once: this is no contest.
		w.patch("web-tls", "kubectl-"+strings.ReplaceAll(c.name, " ", "-"), c.patch)
		w.wants("certificates.web", reconcile.ActionRepair, c.word)
		w.quietly(func() { w.applyOK(reconcile.Options{}) })
		w.converged()
		w.same(w.pair("web-tls"), cert)
		if err := os.RemoveAll(w.path("state")); err != nil { // the count of rounds with it
			t.Fatal(err)
		}
	}

	// What others add is theirs.
	w.patch("web-tls", "kubectl-edit", map[string]any{"data": map[string]any{"more": []byte("x")},
		"metadata": map[string]any{"labels": map[string]any{"theirs": "x"}}})
	w.converged()
	w.edit("app: web", "app: www")
	w.wants("certificates.web", reconcile.ActionRepair, "has the label app=web, want www")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	if s := w.get("web-tls"); string(s.Data["more"]) != "x" || s.Metadata.Labels["theirs"] != "x" || s.Metadata.Labels["app"] != "www" {
		t.Errorf("%v %v", s.Data["more"], s.Metadata.Labels)
	}
	// What the spec has no more goes.
	w.edit("labels: {app: www}, ", "")
	w.wants("certificates.web", reconcile.ActionRepair, "has the label app, which the spec has no more")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.converged()
	if _, ok := w.get("web-tls").Metadata.Labels["app"]; ok {
		t.Error("the label is still there")
	}
}

func meta(kind string, values map[string]any) map[string]any {
	return map[string]any{"metadata": map[string]any{kind: values}}
}

func testDeleted(t *testing.T, l *lab) {
	w := l.newWorld(t, secretAndFiles)
	w.applyOK(reconcile.Options{})
	cert := w.pair("web-tls")
	w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
	w.wants("certificates.web", reconcile.ActionRepair, "web-tls#tls.crt is missing")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.same(w.pair("web-tls"), cert)

	w.patch("web-tls", "kubectl-edit", map[string]any{"data": map[string]any{"tls.key": "", "tls.crt": "", "ca.crt": nil}})
	w.wants("certificates.web", reconcile.ActionRepair, "is malformed")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.same(w.pair("web-tls"), cert)
	w.converged()

	// The key is gone for good: a new one, not an error.
	only := l.newWorld(t, oneSecret)
	only.applyOK(reconcile.Options{})
	only.patch("web-tls", "kubectl-edit", map[string]any{"data": map[string]any{"tls.key": ""}})
	only.wants("certificates.web", reconcile.ActionReplace, "is malformed")
	only.applyOK(reconcile.Options{})
	only.converged()
	only.must(t, "DELETE", only.secretPath("web-tls"), "", "")
	only.wants("certificates.web", reconcile.ActionCreate)
	only.applyOK(reconcile.Options{})
	only.converged()
	only.pair("web-tls")
}

func testFilesAndSecret(t *testing.T, l *lab) {
	w := l.newWorld(t, secretAndFiles)
	w.applyOK(reconcile.Options{})
	w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
	cert := w.pair("web-tls")

	// Each stands in for the other.
	for _, name := range []string{"web.crt", "web.key"} {
		if err := os.Remove(w.path(name)); err != nil {
			t.Fatal(err)
		}
		w.wants("certificates.web", reconcile.ActionRepair, name+" is missing")
		w.quietly(func() { w.applyOK(reconcile.Options{}) })
		w.same(w.filePair("web.crt", "web.key"), cert)
	}
	w.converged()

	// A whole set of another generation in the Secret is not taken for ours.
	other := l.newWorld(t, strings.ReplaceAll(oneSecret, "web-tls", "other"))
	other.applyOK(reconcile.Options{})
	s := other.get("other")
	w.patch("web-tls", "kubectl-edit", map[string]any{"data": map[string]any{"tls.crt": s.Data["tls.crt"], "tls.key": s.Data["tls.key"]}})
	w.wants("certificates.web", reconcile.ActionRepair, "holds another private key", "holds another certificate")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.same(w.pair("web-tls"), cert)
	w.converged()
}

func testForeign(t *testing.T, l *lab) {
	other := l.newWorld(t, oneSecret)
	other.applyOK(reconcile.Options{})
	theirs := other.get("web-tls")
	for _, text := range []string{oneSecret, secretAndFiles} {
		w := l.newWorld(t, text)
		w.create("web-tls", "kubectl-create", "kubernetes.io/tls", map[string][]byte{"tls.crt": theirs.Data["tls.crt"], "tls.key": theirs.Data["tls.key"]})
		before := w.get("web-tls")
		it := w.wants("certificates.web", reconcile.ActionNone, `written by "kubectl-create", not by certsync: it is left alone`)
		if !strings.Contains(it.Hint, "delete the secret if nobody needs it") {
			t.Errorf("hint %q", it.Hint)
		}
		if err := w.apply(reconcile.Options{})["certificates.web"].Err; err == nil {
			t.Error("it was applied")
		}
		if w.issued.Load() != 0 || w.get("web-tls").Metadata.ResourceVersion != before.Metadata.ResourceVersion {
			t.Error("something was issued or written")
		}
		w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
		w.applyOK(reconcile.Options{})
		w.converged()
	}
	// Made between plan and apply, by somebody else.
	w := l.newWorld(t, secretAndFiles)
	b, store := w.backends()
	release, err := store.Lock("test")
	if err != nil {
		t.Fatal(err)
	}
	sp := w.spec()
	state, err := reconcile.Observe(t.Context(), sp, b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := reconcile.Diff(sp, state, reconcile.Options{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.create("web-tls", "kubectl-create", "kubernetes.io/tls", map[string][]byte{"tls.crt": theirs.Data["tls.crt"], "tls.key": theirs.Data["tls.key"]})
	results := reconcile.Apply(t.Context(), sp, state, p, b, reconcile.ApplyOptions{Now: func() time.Time { return w.now }})
	if err := results[len(results)-1].Err; err == nil || !strings.Contains(err.Error(), `somebody else has written other values: conflict with "kubectl-create"`) {
		t.Errorf("error %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	// It is not ours because we wanted to write it.
	w.wants("certificates.web", reconcile.ActionNone, `written by "kubectl-create", not by certsync`)
}

func testAdopt(t *testing.T, l *lab) {
	w := l.newWorld(t, secretAndFiles)
	w.applyOK(reconcile.Options{})
	cert := w.pair("web-tls")
	ours := w.get("web-tls")
	w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
	if err := os.RemoveAll(w.path("state")); err != nil {
		t.Fatal(err)
	}
	w.create("web-tls", "kubectl-create", "kubernetes.io/tls", ours.Data)
	w.wants("certificates.web", reconcile.ActionRepair, "lacks the annotation certsync/certificate")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.converged()
	w.same(w.pair("web-tls"), cert)

	w.now = cert.NotAfter.Add(-time.Hour)
	w.applyOK(reconcile.Options{})
	w.converged()
	w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
}

// testContest shows that certsync and somebody else do not write a Secret in turns
// for ever, whether there are files, too, or not.
func testContest(t *testing.T, l *lab) {
	other := l.newWorld(t, oneSecret)
	other.applyOK(reconcile.Options{})
	theirs := map[string]any{"data": map[string]any{"tls.crt": other.get("web-tls").Data["tls.crt"], "tls.key": other.get("web-tls").Data["tls.key"]}}

	t.Run("with files", func(t *testing.T) {
		w := l.newWorld(t, secretAndFiles)
		w.applyOK(reconcile.Options{})
		for round, word := range []string{"1st of 3 times", "2nd of 3 times", "3rd of 3 times"} {
			w.patch("web-tls", "rival", theirs)
			w.wants("certificates.web", reconcile.ActionRepair, `is written by "rival", too`, word)
			w.quietly(func() { w.applyOK(reconcile.Options{}) })
			w.converged()
			w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
			if round == 0 {
				w.converged() // looking again is no round
			}
		}
		w.patch("web-tls", "rival", theirs)
		version := w.get("web-tls").Metadata.ResourceVersion
		it := w.wants("certificates.web", reconcile.ActionNone, `is left to "rival"`, "stop the other writer")
		if it.Error != "" {
			t.Error(it.Error)
		}
		w.converged()
		// The files go on.
		w.now = w.filePair("web.crt", "web.key").NotAfter.Add(-time.Hour)
		w.wants("certificates.web", reconcile.ActionRenew, `is left to "rival"`)
		w.applyOK(reconcile.Options{})
		w.converged()
		if w.get("web-tls").Metadata.ResourceVersion != version {
			t.Error("the Secret was written")
		}
		// Until somebody says otherwise.
		w.applyOK(reconcile.Options{Replace: []string{"web"}})
		w.converged()
		w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
		w.patch("web-tls", "rival", theirs)
		w.wants("certificates.web", reconcile.ActionRepair, "1st of 3 times")
	})
	t.Run("alone", func(t *testing.T) {
		w := l.newWorld(t, oneSecret)
		w.applyOK(reconcile.Options{})
		for range 3 {
			w.patch("web-tls", "rival", theirs)
			w.wants("certificates.web", reconcile.ActionReplace, "not signed by issuer")
			w.applyOK(reconcile.Options{})
			w.converged()
		}
		w.patch("web-tls", "rival", theirs)
		version := w.get("web-tls").Metadata.ResourceVersion
		for range 3 {
			w.wants("certificates.web", reconcile.ActionNone, "no output is left", "stop the other writer")
			w.quietly(func() { w.apply(reconcile.Options{}) })
		}
		if w.get("web-tls").Metadata.ResourceVersion != version {
			t.Error("the Secret was written")
		}
		w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
		w.applyOK(reconcile.Options{})
		w.converged()
		w.pair("web-tls")
	})
}

func testMetaContest(t *testing.T, l *lab) {
	w := l.newWorld(t, oneSecret)
	w.applyOK(reconcile.Options{})
	for range 3 {
		w.patch("web-tls", "rival", meta("labels", map[string]any{"app": "theirs"}))
		w.wants("certificates.web", reconcile.ActionRepair, "has the label app=theirs")
		w.quietly(func() { w.applyOK(reconcile.Options{}) })
		w.converged()
	}
	w.patch("web-tls", "rival", meta("labels", map[string]any{"app": "theirs"}))
	w.wants("certificates.web", reconcile.ActionNone, `the label app of`, `is left to "rival"`)
	// What is in it is still certsync's.
	w.now = w.pair("web-tls").NotAfter.Add(-time.Hour)
	cert := w.pair("web-tls")
	w.applyOK(reconcile.Options{})
	w.converged()
	if s := w.get("web-tls"); s.Metadata.Labels["app"] != "theirs" || w.pair("web-tls").Equal(cert) {
		t.Errorf("labels %v", s.Metadata.Labels)
	}
}

// testOtherCertsync has two specs, each with a state of its own, write one Secret:
// the cluster cannot tell them apart.
func testOtherCertsync(t *testing.T, l *lab) {
	a, b := l.newWorld(t, oneSecret), l.newWorld(t, oneSecret)
	b.namespace = a.namespace
	a.applyOK(reconcile.Options{})
	version := ""
	for range 20 {
		b.apply(reconcile.Options{})
		a.apply(reconcile.Options{})
		now := a.get("web-tls").Metadata.ResourceVersion
		if now == version {
			break
		}
		version = now
	}
	if now := a.get("web-tls").Metadata.ResourceVersion; now != version {
		t.Fatal("they go on and on")
	}
	if n := a.issued.Load() + b.issued.Load(); n > 8 {
		t.Errorf("%d certificates were issued", n)
	}
	pa, pb := describe(a.plan(reconcile.Options{})), describe(b.plan(reconcile.Options{}))
	if !strings.Contains(pa+pb, "another certsync") {
		t.Errorf("neither tells why:\n%s\n%s", pa, pb)
	}

	// Another certificate of the same spec is refused by the spec; of another one
	// it is told by its name.
	c := l.newWorld(t, strings.ReplaceAll(oneSecret, "  web:", "  www:"))
	c.namespace = a.namespace
	c.wants("certificates.www", reconcile.ActionReplace, "the certsync that has certificates.web")
}

func testTypes(t *testing.T, l *lab) {
	w := l.newWorld(t, secretAndFiles)
	w.create("web-tls", "kubectl-create", "Opaque", map[string][]byte{"x": []byte("y")})
	it := w.wants("certificates.web", reconcile.ActionNone, "is of the type Opaque, want kubernetes.io/tls")
	if !strings.Contains(it.Hint, "delete the Secret") {
		t.Errorf("hint %q", it.Hint)
	}
	w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
	w.applyOK(reconcile.Options{})
	w.patch("web-tls", "kubectl-edit", map[string]any{"immutable": true})
	w.converged()
	w.edit("name: web-tls", "name: web-tls, labels: {app: x}")
	w.wants("certificates.web", reconcile.ActionRepair, "lacks the label app")
	w.applyOK(reconcile.Options{}) // which an immutable Secret allows
	w.converged()
	w.now = w.pair("web-tls").NotAfter.Add(-time.Hour)
	it = w.wants("certificates.web", reconcile.ActionNone, "is immutable")
	if !strings.Contains(it.Hint, "delete the Secret, which is then made anew") {
		t.Errorf("hint %q", it.Hint)
	}
	cert := w.filePair("web.crt", "web.key")
	w.quietly(func() { w.apply(reconcile.Options{}) })
	w.same(w.filePair("web.crt", "web.key"), cert)
	w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
	w.applyOK(reconcile.Options{})
	w.converged()
	w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
}

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
	w.applyOK(reconcile.Options{})
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

// testStale applies a plan after what it was made for has changed.
func testStale(t *testing.T, l *lab) {
	for name, change := range map[string]func(w *objectWorld){
		"edited":  func(w *objectWorld) { w.patch("web-tls", "kubectl-edit", meta("labels", map[string]any{"more": "x"})) },
		"deleted": func(w *objectWorld) { w.must(t, "DELETE", w.secretPath("web-tls"), "", "") },
		"made anew": func(w *objectWorld) {
			s := w.get("web-tls")
			w.must(t, "DELETE", w.secretPath("web-tls"), "", "")
			w.create("web-tls", "kubectl-create", s.Type, s.Data)
		},
	} {
		w := l.newWorld(t, secretAndFiles)
		w.applyOK(reconcile.Options{})
		w.patch("web-tls", "kubectl-edit", map[string]any{"data": map[string]any{"ca.crt": nil}})
		b, store := w.backends()
		release, err := store.Lock("test")
		if err != nil {
			t.Fatal(err)
		}
		sp := w.spec()
		observe := func() *reconcile.State {
			state, err := reconcile.Observe(t.Context(), sp, b)
			if err != nil {
				t.Fatal(err)
			}
			return state
		}
		state := observe()
		p, err := reconcile.Diff(sp, state, reconcile.Options{}, w.now)
		if err != nil {
			t.Fatal(err)
		}
		p.Seal(sp, state)
		if _, err := reconcile.Recheck(p, sp, observe()); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		change(w)
		if _, err := reconcile.Recheck(p, sp, observe()); !errors.Is(err, reconcile.ErrStale) {
			t.Errorf("%s: a saved plan: %v", name, err)
		}
		results := reconcile.Apply(t.Context(), sp, state, p, b, reconcile.ApplyOptions{Now: func() time.Time { return w.now }})
		switch err := results[0].Err; {
		case name == "deleted" && err == nil: // it is made anew, as the next plan would have it
		case err == nil || !strings.Contains(err.Error(), "web-tls has changed since the plan was made"):
			t.Errorf("%s: error %v", name, err)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
		w.applyOK(reconcile.Options{})
		w.converged()
		w.same(w.pair("web-tls"), w.filePair("web.crt", "web.key"))
	}
}

// testGenerations reads a Secret while its generations change: key and certificate
// always match.
func testGenerations(t *testing.T, l *lab) {
	w := l.newWorld(t, twoSecrets)
	w.applyOK(reconcile.Options{})
	generations := []secret{w.get("web-a")}
	w.applyOK(reconcile.Options{Replace: []string{"web"}})
	generations = append(generations, w.get("web-a"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			w.patch("web-a", "rival", map[string]any{"data": generations[i%2].Data})
		}
	}()
	b, _ := w.backends()
	object := w.spec().Certificates[0].Outputs[0].Object
	for n := 0; ; n++ {
		found := b.Objects.Objects(t.Context(), []*spec.Object{object})[0]
		if found.Err != nil {
			t.Fatal(found.Err)
		}
		if _, err := tls.X509KeyPair(found.Data["tls.crt"], found.Data["tls.key"]); err != nil {
			t.Fatalf("at %d: %v", n, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// testCA has CAs whose keys are in Secrets, and their certificates in ConfigMaps.
func testCA(t *testing.T, l *lab) {
	w := l.newWorld(t, `issuers:
  root:
    ca: {commonName: root, secret: {cluster: lab, namespace: NS, name: root-ca}, configMap: {cluster: lab, namespace: NS, name: root-ca}}
  sub:
    ca: {issuer: root, commonName: sub, duration: 5y, secret: {cluster: lab, namespace: NS, name: sub-ca}}
certificates:
  web: {issuer: sub, profile: server, dnsNames: [a.test.svc], secret: {cluster: lab, namespace: NS, name: web-tls}}
`)
	w.applyOK(reconcile.Options{})
	w.converged()
	cert := w.pair("web-tls")
	if n := strings.Count(string(w.get("web-tls").Data["tls.crt"]), "BEGIN"); n != 2 {
		t.Errorf("tls.crt has %d certificates", n)
	}
	bundle := string(w.must(t, "GET", w.objectPath("configmaps", "root-ca"), "", ""))
	if root := string(w.get("root-ca").Data["tls.crt"]); !strings.Contains(bundle, strings.ReplaceAll(root, "\n", `\n`)) {
		t.Errorf("the ConfigMap holds another certificate: %s", bundle)
	}
	w.must(t, "PATCH", w.objectPath("configmaps", "root-ca")+"?fieldManager=kubectl-edit", "application/merge-patch+json", `{"data": {"ca.crt": "x"}}`)
	w.wants("issuers.root", reconcile.ActionRepair, "configmap/root-ca#ca.crt is malformed")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.converged()

	w.now = cert.NotAfter.Add(-time.Hour)
	w.applyOK(reconcile.Options{})
	w.converged()
	if w.pair("web-tls").Equal(cert) {
		t.Error("it was not renewed")
	}
	// A CA that is in one of its places signs, and gets to the others later.
	other := l.newWorld(t, `issuers:
  root: {ca: {commonName: root, files: {certificate: ca.crt, privateKey: ca.key}, configMap: {cluster: lab, namespace: NS, name: root-ca}}}
certificates:
  web: {issuer: root, profile: server, dnsNames: [a.test.svc], secret: {cluster: lab, namespace: NS, name: web-tls}}
`)
	l.failing(func(r *http.Request) verdict {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/configmaps/root-ca") {
			return forbidden
		}
		return pass
	})
	results := other.apply(reconcile.Options{})
	l.failing(nil)
	if results["issuers.root"].Err == nil || results["certificates.web"].Err != nil {
		t.Errorf("results %v", results)
	}
	other.pair("web-tls")
	other.wants("issuers.root", reconcile.ActionRepair, "configmap/root-ca#ca.crt is missing")
	other.quietly(func() { other.applyOK(reconcile.Options{}) })
	other.converged()

	// The key of a CA is never made anew by itself.
	w.patch("root-ca", "kubectl-edit", map[string]any{"data": map[string]any{"tls.key": ""}})
	w.wants("issuers.root", reconcile.ActionNone, "the CA's private key is unusable")
	w.must(t, "DELETE", w.secretPath("root-ca"), "", "")
	w.wants("issuers.root", reconcile.ActionNone, "the CA's certificate is there, but its private key is not")
}

func testKeystores(t *testing.T, l *lab) {
	w := l.newWorld(t, rootCA+`certificates:
  web: {secret: {cluster: lab, namespace: NS, name: web-tls, pkcs12: {passwordFile: pass}, jks: {key: web.jks, passwordFile: pass, alias: web}}}
`)
	w.write("pass", "changeit\n")
	w.applyOK(reconcile.Options{})
	w.converged()
	cert := w.pair("web-tls")
	s := w.get("web-tls")
	if len(s.Data["keystore.p12"]) == 0 || len(s.Data["web.jks"]) == 0 {
		t.Fatal("there are no keystores")
	}
	w.patch("web-tls", "kubectl-edit", map[string]any{"data": map[string]any{"keystore.p12": nil}})
	w.wants("certificates.web", reconcile.ActionRepair, "web-tls#keystore.p12 is missing")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.converged()
	w.edit("alias: web", "alias: server")
	w.wants("certificates.web", reconcile.ActionRepair, `has the alias "web"`)
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.converged()
	// One that the spec has no more goes.
	w.edit(", jks: {key: web.jks, passwordFile: pass, alias: server}", "")
	w.wants("certificates.web", reconcile.ActionRepair, "holds web.jks, which the spec has no more")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.converged()
	if _, ok := w.get("web-tls").Data["web.jks"]; ok {
		t.Error("the keystore is still there")
	}
	if p := w.plan(reconcile.Options{Prune: true}); !p.Empty() {
		t.Errorf("prune: %s", describe(p))
	}
	w.same(w.pair("web-tls"), cert)
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

func testPrune(t *testing.T, l *lab) {
	const certificate = "  gone: {secret: {cluster: lab, namespace: NS, name: gone-tls}}\n"
	gone := func(w *objectWorld) bool {
		status, _ := w.call(t, "GET", w.secretPath("gone-tls"), "", "")
		return status == http.StatusNotFound
	}
	w := l.newWorld(t, oneSecret+certificate)
	w.applyOK(reconcile.Options{})
	w.edit(certificate, "")
	if p := w.plan(reconcile.Options{}); len(p.Orphans) != 1 || !p.Empty() {
		t.Errorf("%s", describe(p))
	}
	w.applyOK(reconcile.Options{})
	if gone(w) {
		t.Error("removed without --prune")
	}
	w.applyOK(reconcile.Options{Prune: true})
	if !gone(w) {
		t.Error("it is still there")
	}
	w.pair("web-tls")
	if p := w.plan(reconcile.Options{Prune: true}); !p.Empty() || len(p.Orphans) > 0 {
		t.Errorf("%s", describe(p))
	}

	// What has been changed, or made anew, is somebody else's.
	for name, change := range map[string]func(*objectWorld){
		"edited":   func(w *objectWorld) { w.patch("gone-tls", "x", map[string]any{"data": map[string]any{"ca.crt": nil}}) },
		"extended": func(w *objectWorld) { w.patch("gone-tls", "x", map[string]any{"data": map[string]any{"more": "eA=="}}) },
		"made anew": func(w *objectWorld) {
			s := w.get("gone-tls")
			w.must(t, "DELETE", w.secretPath("gone-tls"), "", "")
			w.create("gone-tls", "x", s.Type, s.Data)
		},
	} {
		w := l.newWorld(t, oneSecret+certificate)
		w.applyOK(reconcile.Options{})
		change(w)
		w.edit(certificate, "")
		if text := describe(w.plan(reconcile.Options{Prune: true})); !strings.Contains(text, "gone-tls was changed since certsync wrote it: left alone") {
			t.Errorf("%s: %s", name, text)
		}
		w.applyOK(reconcile.Options{Prune: true})
		if gone(w) {
			t.Errorf("%s: it was removed", name)
		}
	}

	// The same cluster by another name.
	w = l.newWorld(t, "clusters: {lab: {kubeconfig: KUBECONFIG}}\n"+oneSecret)
	w.applyOK(reconcile.Options{})
	cert := w.pair("web-tls")
	w.edit("cluster: lab", "cluster: another")
	w.edit("{lab:", "{another:")
	w.quietly(func() { w.applyOK(reconcile.Options{Prune: true}) })
	w.same(w.pair("web-tls"), cert)
	if p := w.plan(reconcile.Options{Prune: true}); !p.Empty() {
		t.Errorf("%s", describe(p))
	}

	// Two names of one cluster that the spec cannot see through.
	text, err := os.ReadFile(w.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	w.write("copy.conf", string(text))
	w.edit("{another:", "{copy: {kubeconfig: copy.conf}, another:")
	w.edit("  web:", "  www: {secret: {cluster: copy, namespace: NS, name: web-tls}}\n  web:")
	for _, id := range []string{"certificates.web", "certificates.www"} {
		w.wants(id, reconcile.ActionNone, "are the same object")
	}
}

// testMoved changes where a Secret is: what is in it goes along.
func testMoved(t *testing.T, l *lab) {
	w := l.newWorld(t, oneSecret)
	w.applyOK(reconcile.Options{})
	cert := w.pair("web-tls")
	w.edit("name: web-tls", "name: www-tls")
	w.wants("certificates.web", reconcile.ActionRepair, "www-tls#tls.key is missing")
	w.quietly(func() { w.applyOK(reconcile.Options{}) })
	w.same(w.pair("www-tls"), cert)
	if p := w.plan(reconcile.Options{}); len(p.Orphans) != 1 || !p.Empty() {
		t.Errorf("%s", describe(p))
	}
	w.applyOK(reconcile.Options{Prune: true})
	if status, _ := w.call(t, "GET", w.secretPath("web-tls"), "", ""); status != http.StatusNotFound {
		t.Error("the old one is still there")
	}
	w.same(w.pair("www-tls"), cert)
	w.converged()
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
