package kubernetes_test

import (
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

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
