package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/files/filestest"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Whole applies on a disk that fails, or a machine that stops, at each single
// operation: after it there is a matching pair, or none where there was none,
// with the right modes, the next apply converges, and nothing is left over.

const faultSpec = `apiVersion: certsync/v1
vars: {name: www}
issuers:
  ca:
    ca:
      commonName: fault CA
      duration: 1000d
      files: {certificate: /tls/ca.crt, privateKey: /tls/ca.key}
certificates:
  plain:
    issuer: ca
    dnsNames: ["${vars.name}.example.com"]
    files: {certificate: /tls/plain.crt, privateKey: /tls/plain.key}
  directory:
    issuer: ca
    dnsNames: ["${vars.name}.example.com"]
    directory: /tls/set
`

// faultCase is what one apply does to what is there.
type faultCase struct {
	name string
	set  map[string]string // variables, from the apply that is tested on
	spec string            // that is applied, if it is another one
	o    reconcile.Options
	skip time.Duration                                   // time that passes before
	prep func(t *testing.T, m *filestest.Mem, a *faulty) // damage done before
	gone []string                                        // certificates that may vanish
	new  bool                                            // there is nothing before
}

var faultCases = []faultCase{
	{name: "create", new: true},
	{name: "renew", skip: 85 * 24 * time.Hour},
	{name: "replace", set: map[string]string{"name": "api"}},
	{name: "replace all", o: reconcile.Options{Replace: []string{"*"}}},
	{name: "repair", prep: func(t *testing.T, m *filestest.Mem, a *faulty) {
		for _, name := range []string{"/tls/plain.key", "/tls/set/..data/tls.key"} {
			a.chmod(t, m, name, 0o644)
		}
	}},
	{name: "prune", spec: faultSpec[:strings.Index(faultSpec, "  directory:")], o: reconcile.Options{Prune: true}, gone: []string{"directory"}},
	{name: "prune plain", spec: strings.Replace(faultSpec, faultSpec[strings.Index(faultSpec, "  plain:"):strings.Index(faultSpec, "  directory:")], "", 1),
		o: reconcile.Options{Prune: true}, gone: []string{"plain"}},
}

// faulty applies specs to disks.
type faulty struct {
	dir   string // of the spec's files
	now   time.Time
	specs map[string]*spec.Spec
}

func (a *faulty) load(t *testing.T, text string, set map[string]string) *spec.Spec {
	t.Helper()
	key := fmt.Sprint(text, set)
	if sp := a.specs[key]; sp != nil {
		return sp
	}
	name := filepath.Join(a.dir, "certsync.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spec.Load([]string{name}, spec.Options{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	a.specs[key] = sp
	return sp
}

func (a *faulty) open(disk files.FS) (*files.Store, reconcile.Backends, error) {
	store, err := files.Open("/state", files.WithFS(disk), files.WithClock(func() time.Time { return a.now }))
	return store, (&app{}).backends(store), err
}

// apply does what the command does. It returns the first error.
func (a *faulty) apply(disk files.FS, sp *spec.Spec, o reconcile.Options) (err error) {
	ctx := context.Background()
	store, b, err := a.open(disk)
	if err != nil {
		return err
	}
	release, err := store.Lock("certsync apply")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if _, err := store.Recover(ctx); err != nil {
		return err
	}
	state, err := reconcile.Observe(ctx, sp, b)
	if err != nil {
		return err
	}
	p, err := reconcile.Diff(sp, state, o, a.now)
	if err != nil {
		return err
	}
	if p.Counts.Failed > 0 {
		return errors.New("the plan has failures")
	}
	var failed error
	for _, r := range reconcile.Apply(ctx, sp, state, p, b, reconcile.ApplyOptions{Now: func() time.Time { return a.now }}) {
		failed = errors.Join(failed, r.Err)
	}
	return failed
}

func (a *faulty) plan(t *testing.T, disk files.FS, sp *spec.Spec) *reconcile.Plan {
	t.Helper()
	_, b, err := a.open(disk)
	if err != nil {
		t.Fatal(err)
	}
	state, err := reconcile.Observe(context.Background(), sp, b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := reconcile.Diff(sp, state, reconcile.Options{}, a.now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (a *faulty) chmod(t *testing.T, m *filestest.Mem, name string, mode fs.FileMode) {
	t.Helper()
	dir, err := m.OpenDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := dir.Open(filepath.Base(name))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close(), dir.Close()); err != nil {
		t.Fatal(err)
	}
}

// prepare brings a new disk to where the tested apply starts.
func (a *faulty) prepare(t *testing.T, c faultCase) *filestest.Mem {
	t.Helper()
	a.now = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	m := filestest.NewMem()
	if c.new {
		return m
	}
	if err := a.apply(m, a.load(t, faultSpec, nil), reconcile.Options{}); err != nil {
		t.Fatal(err)
	}
	a.now = a.now.Add(c.skip)
	if c.prep != nil {
		c.prep(t, m, a)
	}
	return m
}

// pair checks one key and certificate. It tells false if neither is there.
func (a *faulty) pair(t *testing.T, disk files.FS, cert, key spec.Output) bool {
	t.Helper()
	store, _, err := a.open(disk)
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.Read(context.Background(), cert)
	if err != nil {
		t.Fatal(err)
	}
	k, err := store.Read(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Exists && !k.Exists {
		return false
	}
	if !c.Exists || !k.Exists {
		t.Fatalf("%s is there: %t, but %s: %t", cert.Path, c.Exists, key.Path, k.Exists)
	}
	certs, err := pki.ParseCertificates(c.Data)
	if err != nil {
		t.Fatalf("%s: %v", cert.Path, err)
	}
	parsed, _, err := pki.ParseKey(k.Data, nil)
	if err != nil {
		t.Fatalf("%s: %v", key.Path, err)
	}
	if !parsed.Matches(certs[0]) {
		t.Fatalf("%s does not match %s", key.Path, cert.Path)
	}
	return true
}

func (a *faulty) check(t *testing.T, disk *filestest.Mem, sp *spec.Spec, c faultCase) {
	t.Helper()
	everything := a.load(t, faultSpec, nil)
	for cert := range everything.All() {
		there := a.pair(t, disk, cert.Outputs[0], cert.Outputs[1])
		if !there && !c.new && !contains(c.gone, cert.Name) {
			t.Fatalf("%s is gone", cert.Title())
		}
	}
	// The next apply, on a disk that works, converges.
	if err := a.apply(disk, sp, c.o); err != nil {
		t.Fatalf("the next apply: %v", err)
	}
	if p := a.plan(t, disk, sp); !p.Empty() || p.Counts.Failed > 0 || len(p.Orphans) > 0 {
		t.Fatalf("the plan after the next apply: %+v, %d orphans", p.Counts, len(p.Orphans))
	}
	for cert := range sp.All() {
		a.pair(t, disk, cert.Outputs[0], cert.Outputs[1])
	}
	versions := 0
	for name := range disk.Files() {
		switch {
		case strings.Contains(name, ".certsync-"), strings.HasPrefix(name, "/state/journal/") && name != "/state/journal/":
			t.Fatalf("%s is left over", name)
		case strings.HasSuffix(name, "/tls.key") && strings.Contains(name, "/set/.."):
			versions++
		}
	}
	if versions > 2 {
		t.Fatalf("%d versions of the directory set are left", versions)
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// stride is the distance of the operations that are tried: each, but in a run
// that is to be short.
func stride() int {
	if testing.Short() {
		return 11
	}
	return 1
}

// maxOperations ends a loop that never ends by itself.
const maxOperations = 2000

func TestApplyFails(t *testing.T) {
	for _, c := range faultCases {
		for _, fault := range []error{syscall.ENOSPC, syscall.EACCES} {
			t.Run(fmt.Sprintf("%s/%v", c.name, fault), func(t *testing.T) {
				a := &faulty{dir: t.TempDir(), specs: map[string]*spec.Spec{}}
				for n := 1; ; n += stride() {
					if n > maxOperations {
						t.Fatal("the fault is never out of reach")
					}
					m := a.prepare(t, c)
					sp := a.specOf(t, c)
					f := filestest.Inject(m, n, fault)
					err := a.apply(f, sp, c.o)
					if !f.Fired() {
						if err != nil {
							t.Fatal(err)
						}
						if n < 10 {
							t.Fatalf("only %d operations", n)
						}
						break
					}
					a.check(t, m, sp, c)
				}
			})
		}
	}
}

func TestApplyCrashes(t *testing.T) {
	keeps := map[string]filestest.Keep{"killed": filestest.KeepAll, "power cut": filestest.KeepNone, "torn": filestest.KeepSome}
	for _, c := range faultCases {
		for name, keep := range keeps {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				a := &faulty{dir: t.TempDir(), specs: map[string]*spec.Spec{}}
				for n := 1; ; n += stride() {
					if n > maxOperations {
						t.Fatal("the crash is never out of reach")
					}
					m := a.prepare(t, c)
					sp := a.specOf(t, c)
					f := filestest.CrashAt(m, n)
					err := a.apply(f, sp, c.o)
					if !f.Fired() {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					after := m.Crash(keep, uint64(n))
					// Even before recovery, what a plan sees is whole.
					if p := a.plan(t, after, sp); p.Counts.Failed > 0 {
						t.Fatalf("operation %d: the plan after the crash has failures", n)
					}
					a.check(t, after, sp, c)
				}
			})
		}
	}
}

func (a *faulty) specOf(t *testing.T, c faultCase) *spec.Spec {
	t.Helper()
	if c.spec != "" {
		return a.load(t, c.spec, nil)
	}
	return a.load(t, faultSpec, c.set)
}
