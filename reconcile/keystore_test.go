package reconcile_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

const keystoreSpec = `apiVersion: certsync/v1
issuers:
  root: {ca: {commonName: root, files: {certificate: ca.crt, privateKey: ca.key}}}
  middle: {ca: {issuer: root, commonName: middle, duration: 5y, files: {certificate: middle.crt, privateKey: middle.key}}}
certificates:
  web:
    issuer: middle
    dnsNames: [web.example.com]
    files: {certificate: web.crt, privateKey: web.key}
    pkcs12: {path: web.p12, passwordFile: pass}
    jks: {path: web.jks, passwordFile: pass}
`

func keystoreWorld(t *testing.T, text string) *world {
	w := newWorld(t, text)
	w.write("pass", "changeit\n")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	return w
}

func (w *world) keystore(form spec.Form, name string) *pki.Keystore {
	w.t.Helper()
	store, err := pki.ParseKeystore(form, w.read(name), func() ([]byte, error) { return []byte("changeit"), nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return store
}

// wantKeystores checks that the keystores hold what the other files do.
func (w *world) wantKeystores() {
	w.t.Helper()
	for form, name := range map[spec.Form]string{spec.FormPKCS12: "web.p12", spec.FormJKS: "web.jks"} {
		store := w.keystore(form, name)
		e, err := store.Entry()
		if err != nil {
			w.t.Fatal(err)
		}
		if !e.Key.Matches(w.cert("web.crt")) || !e.Chain[0].Equal(w.cert("web.crt")) || len(e.Chain) != 2 || !e.Chain[1].Equal(w.cert("middle.crt")) ||
			len(store.Trusted) != 1 || !store.Trusted[0].Cert.Equal(w.cert("ca.crt")) {
			w.t.Errorf("%s holds something else", name)
		}
	}
}

// TestKeystoreFollowsItsIssuers renews what stands above: the keystores get it, and
// the leaf stays.
func TestKeystoreFollowsItsIssuers(t *testing.T) {
	w := keystoreWorld(t, keystoreSpec)
	w.wantKeystores()
	before := w.read("web.crt")
	w.now = w.cert("middle.crt").NotAfter.AddDate(0, -6, 0)
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.wantKeystores()
	if bytes.Equal(before, w.read("web.crt")) {
		t.Fatal("the leaf was not renewed years later")
	}

	leaf := w.read("web.crt")
	w.edit("commonName: middle, duration: 5y", "commonName: middle, duration: 6y")
	p := w.plan(reconcile.Options{})
	if it := item(t, p, "certificates.web"); it.Action != reconcile.ActionRepair || !it.Has(reconcile.OutputDrift) {
		t.Fatalf("a new certificate for the same key above:\n%s", describe(p))
	}
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.wantKeystores()
	if !bytes.Equal(leaf, w.read("web.crt")) {
		t.Error("the leaf was issued anew")
	}
}

// TestKeystoreUnreadable tries what may be wrong with a keystore, with the key at
// hand in another output and without.
func TestKeystoreUnreadable(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(w *world)
		with   string // the reason, with another output
		alone  string // the error, or the reason of a replacement
		fails  bool   // alone
	}{
		{"password", func(w *world) { w.write("pass", "another1\n") }, "cannot be opened with the password", "wrong password", true},
		{"malformed", func(w *world) { w.write("web.p12", "garbage") }, "is malformed", "is malformed", false},
		{"cut off", func(w *world) { w.write("web.p12", string(w.read("web.p12")[:100])) }, "is malformed", "is malformed", false},
		{"empty", func(w *world) { w.write("web.p12", "") }, "is malformed", "is malformed", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := keystoreWorld(t, keystoreSpec)
			issued := w.issued.Load()
			c.break_(w)
			it := item(t, w.plan(reconcile.Options{}), "certificates.web")
			if it.Action != reconcile.ActionRepair || !strings.Contains(it.Reasons[0].Message, c.with) {
				t.Errorf("with files: %s %+v", it.Action, it.Reasons)
			}
			w.applyOK(reconcile.Options{})
			w.wantEmpty()
			if w.issued.Load() != issued {
				t.Error("something was issued")
			}

			w = keystoreWorld(t, strings.Replace(strings.Replace(keystoreSpec,
				"    files: {certificate: web.crt, privateKey: web.key}\n", "", 1), "    jks: {path: web.jks, passwordFile: pass}\n", "", 1))
			c.break_(w)
			it = item(t, w.plan(reconcile.Options{}), "certificates.web")
			switch {
			case c.fails && (it.Action != reconcile.ActionNone || !strings.Contains(it.Error, c.alone)):
				t.Errorf("alone: %s %q", it.Action, it.Error)
			case !c.fails && (it.Action != reconcile.ActionReplace || !strings.Contains(it.Reasons[0].Message, c.alone)):
				t.Errorf("alone: %s %+v", it.Action, it.Reasons)
			}
		})
	}
}

// TestKeystoreKeyMissing shows that a keystore stands in for a key or a certificate
// that is gone.
func TestKeystoreKeyMissing(t *testing.T) {
	for _, gone := range [][]string{{"web.key"}, {"web.crt"}, {"web.key", "web.crt", "web.jks"}, {"web.key", "web.crt", "web.p12"}} {
		w := keystoreWorld(t, keystoreSpec)
		before := w.cert("web.crt")
		w.remove(gone...)
		it := item(t, w.plan(reconcile.Options{}), "certificates.web")
		if it.Action != reconcile.ActionRepair {
			t.Errorf("without %v: %s %+v", gone, it.Action, it.Reasons)
		}
		w.applyOK(reconcile.Options{})
		w.wantEmpty()
		if !w.cert("web.crt").Equal(before) {
			t.Errorf("without %v: issued anew", gone)
		}
		w.wantPair("web.crt", "web.key")
		w.wantKeystores()
	}
}

// TestKeystoreLockedAndKeyGone shows that a keystore that does not open, and may
// hold the very key, keeps the certificate from being issued.
func TestKeystoreLockedAndKeyGone(t *testing.T) {
	w := keystoreWorld(t, keystoreSpec)
	w.remove("web.key")
	w.write("pass", "another1\n")
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	if it.Action != reconcile.ActionNone || !strings.Contains(it.Error, "wrong password") {
		t.Errorf("%s %q %+v", it.Action, it.Error, it.Reasons)
	}
	w.applyOK(reconcile.Options{Replace: []string{"web"}})
	w.wantEmpty()
	w.wantPair("web.crt", "web.key")
}

// TestKeystoreOfOthers shows that a keystore with more keys than ours is an error.
func TestKeystoreOfOthers(t *testing.T) {
	w := keystoreWorld(t, keystoreSpec)
	w.write("web.jks", "\xce\xce\xce\xce\x00\x00\x00\x02")
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	if it.Action != reconcile.ActionNone || !strings.Contains(it.Error, "JCEKS") || !strings.Contains(it.Hint, "move it away") {
		t.Errorf("%s %q, hint %q", it.Action, it.Error, it.Hint)
	}

	// What may be a CA's only key is not to be moved out of sight.
	w = keystoreWorld(t, strings.Replace(keystoreSpec, "files: {certificate: ca.crt, privateKey: ca.key}", "jks: {path: ca.jks, passwordFile: pass}", 1))
	w.write("ca.jks", "\xce\xce\xce\xce\x00\x00\x00\x02")
	it = item(t, w.plan(reconcile.Options{}), "issuers.root")
	if it.Action != reconcile.ActionNone || it.Hint != "convert the file: it may hold the CA's key" {
		t.Errorf("%s %q, hint %q", it.Action, it.Error, it.Hint)
	}
}

// TestKeystoreLockedOfOthers shows that a keystore that does not open is overwritten
// only where certsync has written it: it may hold somebody else's keys.
func TestKeystoreLockedOfOthers(t *testing.T) {
	const line = "    pkcs12: {path: web.p12, passwordFile: pass}\n"
	w := keystoreWorld(t, strings.Replace(keystoreSpec, line, "", 1))
	w.write("web.p12", string(keystoreWorld(t, keystoreSpec).read("web.p12")))
	w.write("pass2", "another1\n")
	w.edit("    jks:", "    pkcs12: {path: web.p12, passwordFile: pass2}\n    jks:")
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	if it.Action != reconcile.ActionNone || !strings.Contains(it.Error, "wrong password") || !strings.Contains(it.Hint, "or move it away") {
		t.Errorf("%s %q, hint %q", it.Action, it.Error, it.Hint)
	}

	// Beside files that were adopted certsync has written it all the same.
	w.remove("web.p12", "state")
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	w.edit("passwordFile: pass2", "passwordFile: pass")
	if it := item(t, w.plan(reconcile.Options{}), "certificates.web"); it.Action != reconcile.ActionRepair {
		t.Errorf("%s %q", it.Action, it.Error)
	}
	w.applyOK(reconcile.Options{})
	w.wantEmpty()

	// What was there before stays when the spec has it no more.
	w.edit("    files: {certificate: web.crt, privateKey: web.key}\n", "")
	w.edit("    jks: {path: web.jks, passwordFile: pass}\n", "")
	w.applyOK(reconcile.Options{Prune: true})
	for _, name := range []string{"web.key", "web.crt", "web.jks", "web.p12"} {
		w.read(name)
	}
}
