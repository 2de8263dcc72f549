package reconcile_test

import (
	"crypto/x509"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certsync/certsync/reconcile"
)

const simple = `apiVersion: certsync/v1
issuers:
  ca:
    ca:
      commonName: test CA
      duration: 1000d
      files: {certificate: ca.crt, privateKey: ca.key}
certificates:
  web:
    issuer: ca
    profile: server
    dnsNames: [www.example.com]
    duration: 90d
    files: {certificate: web.crt, privateKey: web.key}
`

const deep = `apiVersion: certsync/v1
issuers:
  root:
    ca:
      commonName: root
      duration: 20y
      files: {certificate: root.crt, privateKey: root.key}
  sub:
    ca:
      issuer: root
      commonName: sub
      duration: 5y
      files: {certificate: sub.crt, privateKey: sub.key}
certificates:
  web:
    issuer: sub
    profile: server
    dnsNames: [www.example.com]
    files: {fullChain: web.pem, privateKey: web.key, ca: web-ca.crt}
  other:
    issuer: sub
    profile: server
    dnsNames: [other.example.com]
    directory: other
`

// Every reason, the action that it leads to, and which of several is told first.
func TestReasons(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name   string
		spec   string
		change func(*world)
		o      reconcile.Options
		want   string
	}{
		{name: "nothing to do", change: func(*world) {}},
		{name: "missing", want: "certificates.web=create(Missing)",
			change: func(w *world) { w.remove("web.crt", "web.key") }},
		{name: "missing certificate", want: "certificates.web=create(Missing)",
			change: func(w *world) { w.remove("web.crt") }},
		{name: "missing key", want: "certificates.web=replace(Missing)",
			change: func(w *world) { w.remove("web.key") }},
		{name: "empty certificate", want: "certificates.web=replace(Malformed)",
			change: func(w *world) { w.write("web.crt", "") }},
		{name: "malformed key", want: "certificates.web=replace(Malformed)",
			change: func(w *world) { w.write("web.key", "garbage") }},
		{name: "key of another certificate", want: "certificates.web=replace(KeyMismatch)",
			change: func(w *world) {
				_, key := otherCA(w.t, nil, w.now)
				w.write("web.key", writeKey(w.t, key))
			}},
		{name: "expired", want: "certificates.web=renew(Expired)",
			change: func(w *world) { w.now = w.now.Add(91 * day) }},
		{name: "due", want: "certificates.web=renew(RenewalDue)",
			change: func(w *world) { w.now = w.now.Add(61 * day) }},
		{name: "not due yet", change: func(w *world) { w.now = w.now.Add(50 * day) }},
		{name: "spec changed", want: "certificates.web=replace(SpecChanged)",
			change: func(w *world) { w.edit("[www.example.com]", "[www.example.com, api.example.com]") }},
		{name: "spec changed and expired", want: "certificates.web=replace(Expired SpecChanged)",
			change: func(w *world) {
				w.now = w.now.Add(91 * day)
				w.edit("[www.example.com]", "[www.example.com, api.example.com]")
			}},
		{name: "lifetime changed", want: "certificates.web=replace(SpecChanged)",
			change: func(w *world) { w.edit("duration: 90d", "duration: 60d") }},
		{name: "key algorithm changed", want: "certificates.web=replace(SpecChanged)",
			change: func(w *world) { w.edit("duration: 90d", "duration: 90d\n    privateKey: {algorithm: Ed25519}") }},
		{name: "wrong mode", want: "certificates.web=repair(OutputDrift)",
			change: func(w *world) {
				if err := os.Chmod(w.path("web.key"), 0o644); err != nil {
					w.t.Fatal(err)
				}
			}},
		{name: "requested", want: "certificates.web=replace(Requested)", o: reconcile.Options{Replace: []string{"web"}},
			change: func(*world) {}},
		{name: "requested and missing", want: "certificates.web=create(Missing Requested)", o: reconcile.Options{Replace: []string{"web"}},
			change: func(w *world) { w.remove("web.crt", "web.key") }},
		{name: "CA requested", want: "issuers.ca=replace(Requested) certificates.web=replace(IssuerChanged)", o: reconcile.Options{Replace: []string{"ca"}},
			change: func(*world) {}},
		{name: "CA gone", want: "issuers.ca=create(Missing) certificates.web=replace(IssuerChanged)",
			change: func(w *world) { w.remove("ca.crt", "ca.key") }},
		{name: "CA certificate gone", want: "issuers.ca=create(Missing)",
			change: func(w *world) { w.remove("ca.crt") }},
		{name: "CA certificate gone, and the leaf is another's", want: "issuers.ca=create(Missing) certificates.web=replace(IssuerChanged)",
			change: func(w *world) {
				_, key := otherCA(w.t, nil, w.now)
				w.remove("ca.crt")
				w.write("ca.key", writeKey(w.t, key))
			}},
		{name: "intermediate's certificate gone", spec: deep,
			want:   "issuers.sub=create(Missing) certificates.web=repair(OutputDrift) certificates.other=repair(OutputDrift)",
			change: func(w *world) { w.remove("sub.crt") }},
		{name: "CA renamed", want: "issuers.ca=replace(SpecChanged) certificates.web=replace(IssuerChanged)",
			change: func(w *world) { w.edit("commonName: test CA", "commonName: other CA") }},
		{name: "CA expired", want: "issuers.ca=renew(Expired) certificates.web=renew(Expired)",
			change: func(w *world) { w.now = w.now.Add(1001 * day) }},
		{name: "CA due", want: "issuers.ca=renew(RenewalDue) certificates.web=renew(Expired)",
			change: func(w *world) { w.now = w.now.Add(700 * day) }},
		{name: "CA key gone", want: "issuers.ca=error(the CA's certificate is there, but its private key is not: DIR/ca.key is missing)",
			change: func(w *world) { w.remove("ca.key") }},
		{name: "intermediate due", spec: deep,
			want:   "issuers.sub=renew(RenewalDue) certificates.web=renew(Expired) certificates.other=renew(Expired)",
			change: func(w *world) { w.now = w.now.Add(1500 * day) }},
		{name: "intermediate replaced", spec: deep, o: reconcile.Options{Replace: []string{"sub"}},
			want:   "issuers.sub=replace(Requested) certificates.web=replace(IssuerChanged) certificates.other=replace(IssuerChanged)",
			change: func(*world) {}},
		{name: "root's path length changed", spec: deep,
			want:   "issuers.root=replace(SpecChanged) certificates.web=repair(OutputDrift) certificates.other=repair(OutputDrift)",
			change: func(w *world) { w.edit("commonName: root", "commonName: root\n      pathLen: 3") }},
		{name: "anchor file gone", spec: deep, want: "certificates.web=repair(OutputDrift)",
			change: func(w *world) { w.remove("web-ca.crt") }},
		{name: "directory gone", spec: deep, want: "certificates.other=create(Missing)",
			change: func(w *world) { w.remove("other") }},
		{name: "one member gone", spec: deep, want: "certificates.other=repair(OutputDrift)",
			change: func(w *world) { w.remove("other/ca.crt") }},
		{name: "names narrow", spec: deep, o: reconcile.Options{Names: []string{"w*"}},
			want:   "certificates.web=replace(Missing)",
			change: func(w *world) { w.remove("web.key", "other") }},
		{name: "names bring the issuers that are missing", spec: deep, o: reconcile.Options{Names: []string{"web"}},
			want: "issuers.root=create(Missing) issuers.sub=create(Missing) certificates.web=create(Missing)",
			change: func(w *world) {
				w.remove("root.crt", "root.key", "sub.crt", "sub.key", "web.pem", "web.key", "other")
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.spec == "" {
				test.spec = simple
			}
			w := newWorld(t, test.spec)
			w.applyOK(reconcile.Options{})
			w.wantEmpty()
			test.change(w)
			got := strings.ReplaceAll(describe(w.plan(test.o)), w.dir, "DIR")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if strings.Contains(test.want, "error") {
				return
			}
			w.applyOK(test.o)
			p := w.plan(reconcile.Options{Names: test.o.Names})
			if !p.Empty() {
				t.Errorf("after apply the plan is not empty: %s", describe(p))
			}
		})
	}
}

func TestDifferencesAreTold(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	w.edit("[www.example.com]", "[api.example.com]\n    ipAddresses: [10.0.0.1]")
	w.edit("duration: 90d", "duration: 30d")
	it := item(t, w.plan(reconcile.Options{}), "certificates.web")
	var got []string
	for _, r := range it.Reasons {
		for _, d := range r.Differences {
			got = append(got, d.String())
		}
	}
	want := "dnsNames: + api.example.com - www.example.com|ipAddresses: + 10.0.0.1|duration: 90d → 30d"
	if strings.Join(got, "|") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "|"), want)
	}
}

func TestRenewalKeepsKeyWithNever(t *testing.T) {
	w := newWorld(t, strings.Replace(simple, "duration: 90d", "duration: 90d\n    privateKey: {rotationPolicy: Never}", 1))
	w.applyOK(reconcile.Options{})
	before, key := w.cert("web.crt"), w.read("web.key")
	w.now = w.now.Add(80 * 24 * time.Hour)
	w.applyOK(reconcile.Options{})
	if string(w.read("web.key")) != string(key) {
		t.Error("the key changed")
	}
	if w.cert("web.crt").Equal(before) {
		t.Error("the certificate did not")
	}
	w.wantPair("web.crt", "web.key")
}

// A CA that is renewed keeps its key and name, to the letter, so that what it
// signed is still good.
func TestCARenewalKeepsLeaves(t *testing.T) {
	w := newWorld(t, strings.Replace(simple, "duration: 90d", "duration: 999d", 1))
	w.applyOK(reconcile.Options{})
	leaf := w.cert("web.crt")
	w.edit("duration: 1000d", "duration: 1001d")
	if got, want := describe(w.plan(reconcile.Options{})), "issuers.ca=replace(SpecChanged)"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	w.applyOK(reconcile.Options{})
	w.wantEmpty()
	ca := w.cert("ca.crt")
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: w.now}); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	w := newWorld(t, deep)
	w.applyOK(reconcile.Options{})
	text := string(w.read("certsync.yaml"))
	w.write("certsync.yaml", text[:strings.Index(text, "  other:")])
	w.edit("ca: web-ca.crt", "ca: anchor.crt")

	p := w.plan(reconcile.Options{})
	if got, want := describe(p), "certificates.web=repair(OutputDrift)"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if len(p.Orphans) != 2 {
		t.Fatalf("%d orphans are reported, want 2", len(p.Orphans))
	}
	w.applyOK(reconcile.Options{})
	for _, kept := range []string{"web-ca.crt", "other/tls.key"} {
		w.read(kept)
	}
	w.wantEmpty()
	// What somebody else changed is not ours to remove.
	w.write("web-ca.crt", "mine now")
	w.applyOK(reconcile.Options{Prune: true})
	w.read("web-ca.crt")
	for _, gone := range []string{"other/tls.key", "other"} {
		if _, err := os.Lstat(w.path(gone)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", gone)
		}
	}
	w.wantEmpty()
	if n := len(w.plan(reconcile.Options{}).Orphans); n > 1 {
		t.Errorf("%d orphans are left", n)
	}
}

func TestAdoption(t *testing.T) {
	w := newWorld(t, deep)
	w.applyOK(reconcile.Options{})
	w.remove("state")
	before := w.snapshot()
	w.wantEmpty()
	w.applyOK(reconcile.Options{})
	if !maps.Equal(before, w.snapshot()) {
		t.Error("adopting changed something")
	}
}

func TestSavedPlan(t *testing.T) {
	w := newWorld(t, simple)
	seal := func() (*reconcile.Plan, *reconcile.State) {
		p, s := w.observe(reconcile.Options{})
		p.Seal(w.spec(), s)
		return p, s
	}
	saved, state := seal()
	w.now = w.now.Add(time.Hour)
	again, err := reconcile.Recheck(saved, w.spec(), state)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Created.Equal(saved.Created) || describe(again) != describe(saved) {
		t.Error("the plan is another one")
	}
	w.applyOK(reconcile.Options{})
	_, state = w.observe(reconcile.Options{})
	if _, err := reconcile.Recheck(saved, w.spec(), state); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("a plan that was carried out already: %v", err)
	}
	saved, _ = seal()
	w.edit("90d", "80d")
	_, state = w.observe(reconcile.Options{})
	if _, err := reconcile.Recheck(saved, w.spec(), state); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("a plan of another spec: %v", err)
	}
	saved, state = seal()
	saved.Items[0].Action = reconcile.ActionReplace
	if _, err := reconcile.Recheck(saved, w.spec(), state); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("a plan that was tampered with: %v", err)
	}
}

// A project that is copied, state and all, is a project of its own: what its
// spec has no more is looked for in the copy, not where it was copied from.
func TestCopiedProject(t *testing.T) {
	w := newWorld(t, simple)
	w.applyOK(reconcile.Options{})
	copied := &world{t: t, dir: t.TempDir(), now: w.now}
	if err := os.CopyFS(copied.dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	text := string(copied.read("certsync.yaml"))
	copied.write("certsync.yaml", text[:strings.Index(text, "certificates:")])
	if n := len(copied.plan(reconcile.Options{}).Orphans); n != 1 {
		t.Errorf("%d orphans, want 1", n)
	}
	copied.applyOK(reconcile.Options{Prune: true})
	w.read("web.key")
	if _, err := os.Lstat(copied.path("web.key")); !os.IsNotExist(err) {
		t.Error("the copy's file is still there")
	}
}
