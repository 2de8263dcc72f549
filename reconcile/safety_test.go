package reconcile_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
)

// What works must never be made worse: the cases here have a step that fails, or
// a change of the spec that is easily taken for another one.

// blocked makes a path at which nothing can be made.
func (w *world) blocked(name string) {
	w.t.Helper()
	w.write(name, "a file, and no directory")
}

func TestPruneOnlyAfterSuccess(t *testing.T) {
	for _, what := range []string{"web.", "ca."} {
		w := newWorld(t, simple)
		w.applyOK(reconcile.Options{})
		w.blocked("nope")
		text := string(w.read("certsync.yaml"))
		w.write("certsync.yaml", strings.ReplaceAll(text, ": "+what, ": nope/"+what))
		failed := 0
		for _, r := range w.apply(reconcile.Options{Prune: true}) {
			if r.Err != nil {
				failed++
			}
		}
		p := w.plan(reconcile.Options{Prune: true})
		if failed == 0 && p.Counts.Failed == 0 {
			t.Fatal("nothing failed")
		}
		w.wantPair("web.crt", "web.key")
		w.wantPair("ca.crt", "ca.key")
	}
}

// What has moved is written to its new place, with the same key and certificate.
func TestMovedOutputsAreNotIssuedAnew(t *testing.T) {
	for name, change := range map[string]string{
		"files":     "files: {certificate: new/web.crt, privateKey: new/web.key}",
		"directory": "directory: web",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simple)
			w.applyOK(reconcile.Options{})
			before, ca := w.cert("web.crt"), w.cert("ca.crt")
			w.edit("files: {certificate: web.crt, privateKey: web.key}", change)
			w.edit("ca.crt, privateKey: ca.key", "moved/ca.crt, privateKey: moved/ca.key")
			if got, want := describe(w.plan(reconcile.Options{Prune: true})),
				"issuers.ca=repair(OutputDrift) certificates.web=repair(OutputDrift) certificates.web=prune(Orphaned) issuers.ca=prune(Orphaned)"; got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			w.applyOK(reconcile.Options{Prune: true})
			w.wantEmpty()
			for _, gone := range []string{"web.crt", "web.key", "ca.crt", "ca.key"} {
				if _, err := os.Lstat(w.path(gone)); !os.IsNotExist(err) {
					t.Errorf("%s is still there", gone)
				}
			}
			moved := "new/web.crt"
			if name == "directory" {
				moved = "web/tls.crt"
			}
			if !w.cert(moved).Equal(before) || !w.cert("moved/ca.crt").Equal(ca) {
				t.Error("another certificate is there")
			}
		})
	}
}

// One file by two paths is one file.
func TestPruneSeesThroughSymbolicLinks(t *testing.T) {
	w := newWorld(t, strings.NewReplacer("ca.crt", "pki/ca.crt", "ca.key", "pki/ca.key", "web.", "pki/web.").Replace(simple))
	if err := os.Mkdir(w.path("real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", w.path("pki")); err != nil {
		t.Fatal(err)
	}
	w.applyOK(reconcile.Options{})
	w.write("certsync.yaml", strings.ReplaceAll(string(w.read("certsync.yaml")), "pki/", "real/"))
	w.applyOK(reconcile.Options{Prune: true})
	w.wantPair("real/web.crt", "real/web.key")
	w.wantPair("real/ca.crt", "real/ca.key")
	w.wantEmpty()
}

// Two projects that share a state directory do not prune each other's files.
func TestPruneKeepsToItsOwnSpec(t *testing.T) {
	w := newWorld(t, simple)
	w.state = filepath.Join(t.TempDir(), "state")
	w.applyOK(reconcile.Options{})
	other := &world{t: t, dir: t.TempDir(), now: w.now, state: w.state}
	other.write("certsync.yaml", strings.ReplaceAll(strings.Replace(simple, "  web:", "  other:", 1), "web.", "other."))
	other.applyOK(reconcile.Options{Prune: true})
	w.wantPair("web.crt", "web.key")
	w.wantPair("ca.crt", "ca.key")
	found := false
	for _, o := range other.plan(reconcile.Options{}).Orphans {
		found = found || len(o.Warnings) > 0
	}
	if !found {
		t.Error("that another spec wrote something is not told")
	}
}

// What does not chain is not written over what does.
func TestRepairKeepsTheChain(t *testing.T) {
	verify := func(w *world) {
		t.Helper()
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(w.cert("web-ca.crt"))
		chain, err := pki.ParseCertificates(w.read("web.pem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chain[1:] {
			between.AddCert(c)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: w.now}); err != nil {
			t.Error(err)
		}
	}
	t.Run("an intermediate fails", func(t *testing.T) {
		w := newWorld(t, deep)
		w.applyOK(reconcile.Options{})
		w.edit("privateKey: sub.key", "privateKey: {path: sub.key, owner: \"4294967290\"}")
		before := w.twist
		w.twist = func(r pki.Request, chain pki.Chain, err error) (pki.Chain, error) {
			if r.CA != nil {
				return nil, os.ErrDeadlineExceeded
			}
			return chain, err
		}
		if r := w.apply(reconcile.Options{Replace: []string{"root"}}); r["issuers.sub"].Err == nil || r["certificates.web"].Err == nil {
			t.Errorf("got %v", r)
		}
		verify(w)
		w.twist = before
		w.edit("{path: sub.key, owner: \"4294967290\"}", "sub.key")
		w.applyOK(reconcile.Options{})
		w.wantEmpty()
		verify(w)
	})
	t.Run("names narrow", func(t *testing.T) {
		w := newWorld(t, deep)
		w.applyOK(reconcile.Options{})
		ca, key := otherCA(t, w.cert("root.crt").RawSubject, w.now)
		w.write("root.crt", pemOf("CERTIFICATE", ca.Raw))
		w.write("root.key", writeKey(t, key))
		w.apply(reconcile.Options{Names: []string{"web"}})
		verify(w)
	})
}

// Every output of a CA: what cannot be read is not missing.
func TestReadErrorOfCA(t *testing.T) {
	for _, name := range []string{"ca.crt", "ca.key"} {
		w := newWorld(t, simple)
		w.applyOK(reconcile.Options{})
		w.remove(name)
		if err := os.Mkdir(w.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		p := w.plan(reconcile.Options{})
		if it := item(t, p, "issuers.ca"); it.Error == "" || it.Action != reconcile.ActionNone {
			t.Errorf("%s: got %s %q", name, it.Action, it.Error)
		}
	}
}

// Several errors of one certificate are one line, behind its name.
func TestReadErrorsAreOneLine(t *testing.T) {
	w := newWorld(t, strings.ReplaceAll(simple, ": web.", ": nope/web."))
	w.blocked("nope")
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	if !strings.Contains(it.Error, "files.certificate") || !strings.Contains(it.Error, "files.privateKey") || strings.Contains(it.Error, "\n") {
		t.Errorf("got %q", it.Error)
	}
}

// What may be intact, but cannot be read, is not malformed.
func TestUnsupportedFormsAreNotReplaced(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	run := func(file string, args ...string) func(w *world) {
		return func(w *world) {
			cmd := exec.Command(openssl, append(args, "-out", "new")...)
			cmd.Dir = w.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				w.t.Fatalf("openssl %v: %v\n%s", args, err, out)
			}
			if err := os.Rename(w.path("new"), w.path(file)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	tests := map[string]func(w *world){
		"scrypt":          run("web.key", "pkcs8", "-topk8", "-scrypt", "-in", "web.key", "-passout", "pass:x"),
		"PKCS#12 cipher":  run("web.key", "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", "web.key", "-passout", "pass:x"),
		"camellia":        run("web.key", "pkcs8", "-topk8", "-v2", "camellia256", "-in", "web.key", "-passout", "pass:x"),
		"DER key":         run("web.key", "pkey", "-in", "web.key", "-outform", "DER"),
		"DER certificate": run("web.crt", "x509", "-in", "web.crt", "-outform", "DER"),
		"PKCS#7":          run("web.crt", "crl2pkcs7", "-nocrl", "-certfile", "web.crt"),
		"trusted":         run("web.crt", "x509", "-in", "web.crt", "-trustout"),
		"byte order mark": func(w *world) { w.write("web.crt", "\xef\xbb\xbf"+string(w.read("web.crt"))) },
		"another curve":   run("web.key", "genpkey", "-algorithm", "ED448"),
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, strings.Replace(simple, "duration: 90d", "duration: 90d\n    privateKey: {passwordEnv: CERTSYNC_TEST_PASSWORD}", 1))
			t.Setenv("CERTSYNC_TEST_PASSWORD", "x")
			if name == "DER key" || name == "another curve" {
				w = newWorld(t, simple)
			}
			plain := strings.Contains(string(w.read("certsync.yaml")), "passwordEnv")
			w.applyOK(reconcile.Options{})
			if plain { // openssl is to read it without being asked
				run("web.key", "pkey", "-in", "web.key", "-passin", "pass:x")(w)
			}
			change(w)
			it := item(t, w.plan(reconcile.Options{}), "certificates.web")
			if it.Error == "" || it.Hint == "" || it.Action != reconcile.ActionNone {
				t.Errorf("got %s %v, error %q, hint %q", it.Action, it.Reasons, it.Error, it.Hint)
			}
		})
	}
}

func TestCAKeyMismatchIsAnError(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	_, key := otherCA(t, nil, w.now)
	w.write("ca.key", writeKey(t, key))
	if it := item(t, w.plan(reconcile.Options{}), "issuers.ca"); it.Error == "" || it.Hint == "" {
		t.Errorf("got %s", it.Action)
	}
	w.applyOK(reconcile.Options{Replace: []string{"issuers.ca"}})
	w.wantEmpty()
}

// A CA as openssl req -x509 makes it, without key usages, fits a spec that does
// not state any.
func TestAdoptCAWithoutUsages(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	ca := w.cert("ca.crt")
	key, _, err := pki.ParseKey(w.read("ca.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	template := *ca
	template.KeyUsage = 0
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key.Signer())
	if err != nil {
		t.Fatal(err)
	}
	w.write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	w.remove("state")
	w.wantEmpty()
	w.edit("commonName: test CA", "commonName: test CA\n      usages: [cert sign, crl sign]")
	if got, want := describe(w.plan(reconcile.Options{})), "issuers.ca=replace(SpecChanged)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The files of what was adopted stay when the spec forgets them, even if one of
// them was repaired meanwhile.
func TestAdoptedFilesAreNotPruned(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	w.remove("state")
	if err := os.Chmod(w.path("web.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	text := string(w.read("certsync.yaml"))
	w.write("certsync.yaml", text[:strings.Index(text, "certificates:")])
	w.applyOK(reconcile.Options{Prune: true})
	w.wantPair("web.crt", "web.key")
}

// A password that is wrong can be got over, if that is asked for.
func TestReplaceWithoutThePassword(t *testing.T) {
	w := newWorld(t, strings.Replace(simple, "duration: 90d", "duration: 90d\n    privateKey: {passwordEnv: CERTSYNC_TEST_PASSWORD}", 1))
	t.Setenv("CERTSYNC_TEST_PASSWORD", "old")
	w.applyOK(reconcile.Options{})
	t.Setenv("CERTSYNC_TEST_PASSWORD", "new")
	if it := item(t, w.plan(reconcile.Options{}), "certificates.web"); it.Error == "" || !strings.Contains(it.Hint, "--replace") {
		t.Errorf("got %s, hint %q", it.Action, it.Hint)
	}
	w.applyOK(reconcile.Options{Replace: []string{"web"}})
	w.wantEmpty()
}

func TestShortLifetimes(t *testing.T) {
	for _, fields := range []string{"duration: 1m", "duration: 1m\n    renewBefore: 99.9%", "duration: 1m\n    renewBefore: 59s", "duration: 10m\n    renewBefore: 9m"} {
		w := newWorld(t, strings.Replace(simple, "duration: 90d", fields, 1))
		w.applyOK(reconcile.Options{})
		w.wantEmpty()
		w.remove("state")
		w.wantEmpty()
	}
}

func TestReplaceOutsideOfTheNames(t *testing.T) {
	w := newWorld(t, deep)
	sp := w.spec()
	state, err := reconcile.Observe(t.Context(), sp, w.backends())
	if err != nil {
		t.Fatal(err)
	}
	_, err = reconcile.Diff(sp, state, reconcile.Options{Names: []string{"web"}, Replace: []string{"root"}}, w.now)
	if err == nil || !strings.Contains(err.Error(), "leave it out") {
		t.Errorf("got %v", err)
	}
}

// The archive has what was there before, whatever it was.
func TestArchiveKeepsThePreviousSet(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	key := string(w.read("web.key"))
	w.applyOK(reconcile.Options{Replace: []string{"web"}})
	found := false
	walk(t, filepath.Join(w.dir, "state", "archive"), func(path string, data []byte) {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v %v", path, info.Mode(), err)
		}
		found = found || string(data) == key
	})
	if !found {
		t.Error("the previous key is not in the archive")
	}
}
