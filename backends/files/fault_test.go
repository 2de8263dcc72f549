package files_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/files/filestest"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

const stateDir = "/var/lib/certsync"

// certificate is a certificate of a scenario and where it is written.
type certificate struct {
	id      spec.ID
	outputs []spec.Output
}

func plainCertificate(name string) certificate {
	return certificate{spec.ID{Kind: spec.KindCertificate, Name: name}, []spec.Output{
		{Form: spec.FormFullChain, Path: "/etc/tls/" + name + ".crt", Mode: 0o644},
		{Form: spec.FormPrivateKey, Path: "/etc/keys/" + name + ".key", Mode: 0o640, Group: "42"},
	}}
}

func dirCertificate(name string) certificate {
	dir := "/srv/" + name
	return certificate{spec.ID{Kind: spec.KindCertificate, Name: name}, []spec.Output{
		{Form: spec.FormFullChain, Dir: dir, Path: dir + "/tls.crt", Mode: 0o644},
		{Form: spec.FormPrivateKey, Dir: dir, Path: dir + "/tls.key", Mode: 0o600, Owner: "7"},
		{Form: spec.FormCA, Dir: dir, Path: dir + "/ca.crt", Mode: 0o444},
	}}
}

func mixedCertificate(name string) certificate {
	c := plainCertificate(name)
	c.outputs = append(c.outputs, dirCertificate(name).outputs...)
	return c
}

// at returns the set that brings the certificate to a generation.
func (c certificate) at(generation string) reconcile.Set {
	set := reconcile.Set{ID: c.id, Archive: c.outputs, Record: &reconcile.Record{
		FormatVersion: reconcile.RecordVersion, Kind: c.id.Kind, Name: c.id.Name, Fingerprint: generation,
	}}
	for _, o := range c.outputs {
		set.Write = append(set.Write, reconcile.File{Output: o, Data: []byte(generation + " of " + o.Path)})
	}
	return set
}

func (c certificate) removed() reconcile.Set {
	return reconcile.Set{ID: c.id, Archive: c.outputs, Remove: c.outputs}
}

// without returns the set in which some outputs go and the others are written.
func (c certificate) without(generation string, n int) reconcile.Set {
	set := c.at(generation)
	set.Write = set.Write[:len(set.Write)-n]
	set.Remove = c.outputs[len(c.outputs)-n:]
	return set
}

type scenario struct {
	name   string
	before func(t *testing.T, m *filestest.Mem)
	sets   []reconcile.Set
	certs  []certificate
}

func scenarios() []scenario {
	p, d, x := plainCertificate("web"), dirCertificate("api"), mixedCertificate("both")
	make := func(certs ...certificate) func(*testing.T, *filestest.Mem) {
		return func(t *testing.T, m *filestest.Mem) {
			for _, g := range []string{"zero", "one", "two"} {
				var sets []reconcile.Set
				for _, c := range certs {
					sets = append(sets, c.at(g))
				}
				mustApply(t, m, sets)
			}
		}
	}
	nothing := func(*testing.T, *filestest.Mem) {}
	adopted := func(t *testing.T, m *filestest.Mem) {
		for _, o := range d.outputs[:2] {
			m.WriteFile(o.Path, []byte("found"), 0o666)
		}
		m.WriteFile("/srv/api/README", []byte("not ours"), 0o666)
	}
	keyOnly := d.at("three")
	keyOnly.Write = keyOnly.Write[1:]
	var many []reconcile.Set
	var manyCerts []certificate
	for i := range 7 {
		c := plainCertificate(fmt.Sprint("many", i))
		many, manyCerts = append(many, c.at("three")), append(manyCerts, c)
	}
	return []scenario{
		{"create plain", nothing, []reconcile.Set{p.at("three")}, []certificate{p}},
		{"replace plain", make(p), []reconcile.Set{p.at("three")}, []certificate{p}},
		{"remove plain", make(p), []reconcile.Set{p.removed()}, []certificate{p}},
		{"remove one plain", make(p), []reconcile.Set{p.without("three", 1)}, []certificate{p}},
		{"create directory", nothing, []reconcile.Set{d.at("three")}, []certificate{d}},
		{"replace directory", make(d), []reconcile.Set{d.at("three")}, []certificate{d}},
		{"remove directory", make(d), []reconcile.Set{d.removed()}, []certificate{d}},
		{"remove member", make(d), []reconcile.Set{d.without("three", 1)}, []certificate{d}},
		{"adopt directory", adopted, []reconcile.Set{d.at("three")}, []certificate{d}},
		{"remove adopted", adopted, []reconcile.Set{d.removed()}, []certificate{d}},
		{"replace mixed", make(x), []reconcile.Set{x.at("three")}, []certificate{x}},
		{"batch", make(d, x), []reconcile.Set{p.at("three"), x.at("three"), d.removed()}, []certificate{p, x, d}},
		{"many", nothing, many, manyCerts},
	}
}

// apply does what the engine does, and stops at the first error of Lock,
// Prepare and Recover. The errors of sets are one for each.
func apply(disk files.FS, sets []reconcile.Set) (errs []error, err error) {
	ctx := context.Background()
	s, err := files.Open(stateDir, files.WithFS(disk), files.WithClock(clock()))
	if err != nil {
		return nil, err
	}
	release, err := s.Lock("certsync apply")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if _, err := s.Recover(ctx); err != nil {
		return nil, err
	}
	errs = make([]error, len(sets))
	var staged []reconcile.Staged
	var index []int
	for i, set := range sets {
		st, err := s.Stage(ctx, set)
		if err != nil {
			errs[i] = err
			continue
		}
		staged, index = append(staged, st), append(index, i)
	}
	for i, err := range s.Commit(ctx, staged) {
		errs[index[i]] = err
	}
	return errs, nil
}

func mustApply(t *testing.T, m files.FS, sets []reconcile.Set) {
	t.Helper()
	errs, err := apply(m, sets)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

// ticks makes later clocks later, whatever they measure.
var ticks atomic.Int64

func clock() func() time.Time {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(ticks.Add(1)) * time.Second)
	return func() time.Time { return now }
}

// observe describes one certificate as a plan sees it.
func observe(t *testing.T, disk files.FS, c certificate) string {
	t.Helper()
	ctx := context.Background()
	s, err := files.Open(stateDir, files.WithFS(disk))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range c.outputs {
		obs, err := s.Read(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v %q %o %q\n", o.Path, obs.Exists, []byte(obs.Data), obs.Mode, obs.Drift)
	}
	r, err := s.Record(ctx, c.id)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if (r != nil) != slices.Contains(ids, c.id) {
		t.Fatalf("record %v, but Records is %v", r, ids)
	}
	if r != nil {
		fmt.Fprintf(&b, "record %s\n", r.Fingerprint)
	}
	return b.String()
}

// served describes one certificate as the services that use it see it.
func served(m *filestest.Mem, c certificate) string {
	var b strings.Builder
	for _, o := range c.outputs {
		data, ok := m.ReadFile(o.Path)
		fmt.Fprintf(&b, "%s %v %q\n", o.Path, ok, data)
	}
	return b.String()
}

// strays lists what should not be there.
func strays(m *filestest.Mem) []string {
	var found []string
	all := m.Files()
	versions := map[string]map[string]bool{}
	for path := range all {
		if strings.Contains(path, ".certsync-") || strings.HasPrefix(path, stateDir+"/corrupt/") && !strings.HasSuffix(path, "corrupt/") ||
			strings.HasPrefix(path, stateDir+"/journal/") && path != stateDir+"/journal/" {
			found = append(found, path)
		}
		if dir, rest, ok := strings.Cut(path, "/..2"); ok {
			if versions[dir] == nil {
				versions[dir] = map[string]bool{}
			}
			version, _, _ := strings.Cut("..2"+rest, "/")
			versions[dir][version] = true
		}
	}
	for dir, v := range versions {
		present, ok := all[dir+"/..data"]
		if !ok || len(v) > 2 || !v[strings.TrimPrefix(present, "-> ")] {
			found = append(found, fmt.Sprintf("%s: versions %v, present %q", dir, v, present))
		}
	}
	slices.Sort(found)
	return found
}

// TestFaultAtEveryOperation fails each operation of each scenario in turn.
func TestFaultAtEveryOperation(t *testing.T) {
	eachScenario(t, func(t *testing.T, sc scenario, fresh func() *filestest.Mem) {
		before, after := ends(t, sc, fresh)
		faults := []struct {
			name string
			wrap func(m *filestest.Mem, n int) *filestest.Faulty
		}{
			{"ENOSPC", func(m *filestest.Mem, n int) *filestest.Faulty { return filestest.Inject(m, n, syscall.ENOSPC) }},
			{"EACCES", func(m *filestest.Mem, n int) *filestest.Faulty { return filestest.Inject(m, n, syscall.EACCES) }},
			{"any EIO", func(m *filestest.Mem, n int) *filestest.Faulty { return filestest.InjectAny(m, n, syscall.EIO) }},
		}
		for _, f := range faults {
			var total int
			for n := 1; ; n++ {
				m := fresh()
				faulty := f.wrap(m, n)
				var at string
				faulty.Trace(func(i int, op, name string) {
					if i == n {
						at = fmt.Sprintf("%s: operation %d, %s %s", f.name, n, op, name)
					}
				})
				errs, err := apply(faulty, sc.sets)
				if !faulty.Fired() {
					total = n - 1
					break
				}
				for i, c := range sc.certs {
					got := served(m, c)
					done := err == nil && errs[i] == nil
					if got != after[i].served && (done || got != before[i].served) {
						t.Fatalf("%s: served after errors %v, %v:\n%swas:\n%swant:\n%s", at, errs, err, got, before[i].served, after[i].served)
					}
				}
				settle(t, sc, m, before, after, at, errs)
			}
			t.Logf("%s: %d operations", f.name, total)
		}
	})
}

// TestCrashAtEveryOperation stops the machine at each operation of each scenario.
func TestCrashAtEveryOperation(t *testing.T) {
	type loss struct {
		keep filestest.Keep
		seed uint64
	}
	losses := []loss{{filestest.KeepAll, 0}, {filestest.KeepNone, 0}}
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		losses = append(losses, loss{filestest.KeepSome, seed})
	}
	eachScenario(t, func(t *testing.T, sc scenario, fresh func() *filestest.Mem) {
		before, after := ends(t, sc, fresh)
		for _, l := range losses {
			for n := 1; ; n++ {
				m := fresh()
				faulty := filestest.CrashAt(m, n)
				var at string
				faulty.Trace(func(i int, op, name string) {
					if i == n {
						at = fmt.Sprintf("crash keeping %v, seed %d: operation %d, %s %s", l.keep, l.seed, n, op, name)
					}
				})
				errs, _ := apply(faulty, sc.sets)
				if !faulty.Fired() {
					break
				}
				m = m.Crash(l.keep, l.seed*1000+uint64(n))
				settle(t, sc, m, before, after, at, errs)
			}
		}
	})
}

// TestCrashDuringRecovery stops the machine in a commit, and again in each
// operation of the recovery from that.
func TestCrashDuringRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	eachScenario(t, func(t *testing.T, sc scenario, fresh func() *filestest.Mem) {
		if sc.name == "many" || sc.name == "batch" {
			return
		}
		before, after := ends(t, sc, fresh)
		for n := 1 + len(sc.name)%5; ; n += 5 { // all of them take minutes
			var first bool
			for k := 1 + n%2; ; k += 2 {
				m := fresh()
				faulty := filestest.CrashAt(m, n)
				_, _ = apply(faulty, sc.sets)
				if first = faulty.Fired(); !first {
					break
				}
				m = m.Crash(filestest.KeepSome, uint64(n*31+k))
				again := filestest.CrashAt(m, k)
				_, _ = apply(again, nil)
				m = m.Crash(filestest.KeepSome, uint64(n+k*37))
				settle(t, sc, m, before, after, fmt.Sprintf("crash at %d, then at %d", n, k), nil)
				if !again.Fired() {
					break
				}
			}
			if !first {
				break
			}
		}
	})
}

// TestErrorThenCrash fails an operation, and stops the machine at each one that
// follows: the undo of a commit is to be as safe as the commit.
func TestErrorThenCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	eachScenario(t, func(t *testing.T, sc scenario, fresh func() *filestest.Mem) {
		if sc.name == "many" || sc.name == "batch" {
			return
		}
		before, after := ends(t, sc, fresh)
		for n := 1; ; n++ {
			var isRename, fired bool
			for k := n + 1 + n%3; ; k += 3 { // all of them take minutes
				m := fresh()
				inner := filestest.CrashAt(m, k-1) // the failed operation is not counted there
				faulty := filestest.Inject(inner, n, syscall.EIO)
				faulty.Trace(func(i int, op, _ string) {
					if i == n {
						isRename = op == "rename" || op == "sync"
					}
				})
				errs, _ := apply(faulty, sc.sets)
				fired = faulty.Fired()
				if !fired || !isRename {
					break
				}
				m = m.Crash(filestest.KeepSome, uint64(n*41+k))
				settle(t, sc, m, before, after, fmt.Sprintf("error at %d, crash at %d", n, k), errs)
				if !inner.Fired() {
					break
				}
			}
			if !fired {
				break
			}
		}
	})
}

func eachScenario(t *testing.T, f func(t *testing.T, sc scenario, fresh func() *filestest.Mem)) {
	for _, kind := range []string{"disk", "without links and syncfs"} {
		for _, sc := range scenarios() {
			t.Run(kind+"/"+sc.name, func(t *testing.T) {
				if testing.Short() && kind != "disk" && (sc.name == "batch" || sc.name == "many") {
					t.Skip("long")
				}
				t.Parallel()
				m := filestest.NewMem()
				m.NoLink, m.NoSyncFS = kind != "disk", kind != "disk"
				m.MkdirAll(filepath.Dir(stateDir))
				m.MkdirAll("/etc")
				m.MkdirAll("/srv")
				sc.before(t, m)
				f(t, sc, m.Clone)
			})
		}
	}
}

type end struct{ observed, served string }

// ends returns what is to be seen of each certificate before and after.
func ends(t *testing.T, sc scenario, fresh func() *filestest.Mem) (before, after []end) {
	m := fresh()
	for _, c := range sc.certs {
		before = append(before, end{observe(t, m, c), served(m, c)})
	}
	mustApply(t, m, sc.sets)
	for i, c := range sc.certs {
		after = append(after, end{observe(t, m, c), served(m, c)})
		if before[i] == after[i] {
			t.Fatal("the scenario changes nothing")
		}
	}
	if s := strays(m); len(s) > 0 {
		t.Fatalf("strays after success: %q", s)
	}
	return before, after
}

// settle checks that each certificate is wholly old or new, before and after a
// recovery, that the recovery leaves nothing behind, and that a retry works. A
// set that was reported as done must be new.
func settle(t *testing.T, sc scenario, m *filestest.Mem, before, after []end, at string, errs []error) {
	t.Helper()
	for i, c := range sc.certs {
		got := observe(t, m, c)
		done := errs != nil && errs[i] == nil
		if got != after[i].observed && (done || got != before[i].observed) {
			t.Fatalf("%s: observed after error %v:\n%swas:\n%swant:\n%s\n%q", at, errs, got, before[i].observed, after[i].observed, m.Files())
		}
	}
	mustApply(t, m, nil)
	for i, c := range sc.certs {
		got := end{observe(t, m, c), served(m, c)}
		done := errs != nil && errs[i] == nil
		if got != after[i] && (done || got != before[i]) {
			t.Fatalf("%s: recovered after errors %v:\n%swas:\n%swant:\n%s\n%q", at, errs, got, before[i], after[i], m.Files())
		}
	}
	if s := strays(m); len(s) > 0 {
		t.Fatalf("%s: strays after recovery from %v: %q", at, errs, s)
	}
	mustApply(t, m, sc.sets)
	for i, c := range sc.certs {
		if got := (end{observe(t, m, c), served(m, c)}); got != after[i] {
			t.Fatalf("%s: after a retry:\n%swant:\n%s", at, got, after[i])
		}
	}
	if s := strays(m); len(s) > 0 {
		t.Fatalf("%s: strays after a retry: %q", at, s)
	}
}
