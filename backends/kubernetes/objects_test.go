package kubernetes_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile"
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
		{"writes that may not have been done", testUnsure},
		{"the place of the key is written first", testKeyFirst},
		{"another key in a ConfigMap", testOtherKey},
		{"answers of something else", testStrangeAnswers},
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

	// The namespace that it was in is gone.
	next := l.newWorld(t, "").namespace
	w.must(t, "DELETE", "/api/v1/namespaces/"+w.namespace, "", "")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _ := w.call(t, "GET", "/api/v1/namespaces/"+w.namespace, "", ""); status == http.StatusNotFound {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the namespace is still there")
		}
	}
	w.namespace = next
	w.wants("certificates.web", reconcile.ActionCreate)
	w.applyOK(reconcile.Options{Prune: true})
	w.converged()
	w.pair("www-tls")
}
