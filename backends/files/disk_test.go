package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// onDisk moves a certificate of the fault tests below a real directory, without
// owners.
func onDisk(dir string, c certificate) certificate {
	var outputs []spec.Output
	for _, o := range c.outputs {
		o.Path = dir + o.Path
		if o.Dir != "" {
			o.Dir = dir + o.Dir
		}
		o.Owner, o.Group = "", ""
		outputs = append(outputs, o)
	}
	return certificate{c.id, outputs}
}

func open(t testing.TB, dir string) *files.Store {
	t.Helper()
	s, err := files.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lock(t testing.TB, s *files.Store) {
	t.Helper()
	release, err := s.Lock("certsync test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
}

func commit(s *files.Store, sets ...reconcile.Set) error {
	ctx := context.Background()
	var staged []reconcile.Staged
	for _, set := range sets {
		st, err := s.Stage(ctx, set)
		if err != nil {
			for _, st := range staged {
				err = errors.Join(err, st.Discard())
			}
			return err
		}
		staged = append(staged, st)
	}
	return errors.Join(s.Commit(ctx, staged)...)
}

// PITFALLS 15: umask has no part in the modes, and a key is closed to others
// before its first byte.
func TestUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		t.Run(fmt.Sprintf("%03o", mask), func(t *testing.T) {
			dir := t.TempDir()
			c := onDisk(dir, mixedCertificate("web"))
			for _, sub := range []string{"/etc/tls", "/etc/keys", "/srv"} {
				if err := os.MkdirAll(dir+sub, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(dir+"/srv/web", 0o755); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir+"/state")
			if mask == 0o777 { // only for what is written beside the targets
				lock(t, s)
			}
			old := syscall.Umask(mask)
			defer syscall.Umask(old)
			if mask != 0o777 {
				lock(t, s)
			}
			set := c.at("one")
			if mask == 0o777 && os.Getuid() != 0 {
				t.Skip("with this umask only root can enter its own directories")
			}
			if err := commit(s, set); err != nil {
				t.Fatal(err)
			}
			for _, o := range c.outputs {
				obs, err := s.Read(context.Background(), o)
				if err != nil || obs.Mode != o.Mode || len(obs.Drift) > 0 {
					t.Errorf("%s: %v %o %q", o.Path, err, obs.Mode, obs.Drift)
				}
			}
			_ = filepath.Walk(dir+"/state", func(path string, info os.FileInfo, err error) error {
				if err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s: %v %v", path, info.Mode(), err)
				}
				return nil
			})
		})
	}
}

// PITFALLS 10: who resolves ..data once never sees two generations.
func TestDirectoryReader(t *testing.T) {
	swaps := 10_000
	if testing.Short() {
		swaps = 300
	}
	dir := memoryDir(t)
	c := onDisk(dir, dirCertificate("api"))
	set := c.outputs[0].Dir
	s := open(t, dir+"/state")
	lock(t, s)
	if err := commit(s, c.at("0")); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var reads atomic.Int64
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop.Store(true)
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				version, err := filepath.EvalSymlinks(set + "/..data")
				var root *os.Root
				if err == nil {
					root, err = os.OpenRoot(version)
				}
				if errors.Is(err, os.ErrNotExist) {
					continue // two swaps between two calls
				}
				if err != nil {
					t.Error(err)
					return
				}
				var generation string
				for _, o := range c.outputs {
					data, err := root.ReadFile(filepath.Base(o.Path))
					if errors.Is(err, os.ErrNotExist) {
						generation = "" // removed two swaps later
						break
					}
					g, _, _ := strings.Cut(string(data), " ")
					if err != nil || generation != "" && g != generation {
						t.Errorf("generations %s and %s: %v", generation, g, err)
					}
					generation = g
				}
				root.Close()
				reads.Add(1)
			}
		})
	}
	for i := range swaps {
		next := c.at(fmt.Sprint(i + 1))
		next.Archive = nil
		if err := commit(s, next); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d swaps, %d reads", swaps, reads.Load())
}

// memoryDir returns a directory where a sync costs nothing, if there is one.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "certsync-test-") //nolint:usetesting // t.TempDir is on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// PITFALLS 13: a reader of a plain file sees its old or its new content.
func TestPlainReader(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(dir, plainCertificate("web"))
	s := open(t, dir+"/state")
	lock(t, s)
	large := func(g int) reconcile.Set {
		set := c.at(fmt.Sprint(g))
		for i := range set.Write {
			set.Write[i].Data = bytes.Repeat([]byte{byte('a' + g%26)}, 50_000)
		}
		set.Archive = nil
		return set
	}
	if err := commit(s, large(0)); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop.Store(true)
	readers.Go(func() {
		for !stop.Load() {
			data, err := os.ReadFile(c.outputs[0].Path)
			if err != nil || len(data) != 50_000 || bytes.Count(data, data[:1]) != len(data) {
				t.Errorf("%d bytes, %v", len(data), err)
				return
			}
		}
	})
	for g := range 200 {
		if err := commit(s, large(g)); err != nil {
			t.Fatal(err)
		}
	}
}

// PITFALLS 14: what a set does not write keeps its inode and its times.
func TestUnchangedStays(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(dir, plainCertificate("web"))
	s := open(t, dir+"/state")
	lock(t, s)
	if err := commit(s, c.at("one")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(c.outputs[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	next := c.at("two")
	next.Write = next.Write[1:]
	if err := commit(s, next); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(c.outputs[0].Path)
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Fatalf("%v, %v: %v", before, after, err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir() + "/state"
	first, second := open(t, dir), open(t, dir)
	release, err := first.Lock("certsync apply")
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.Lock("certsync run")
	want := fmt.Sprintf("state directory %s is in use by pid %d (certsync apply) since ", dir, os.Getpid())
	if !errors.Is(err, files.ErrLocked) || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("%v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/lock", []byte("\x00garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock(t, second)
	if _, err := second.Stage(context.Background(), reconcile.Set{}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Stage(context.Background(), reconcile.Set{}); err == nil {
		t.Fatal("staged without the lock")
	}
}

// PITFALLS 12: garbage in every state file is reported once and set aside.
func TestGarbage(t *testing.T) {
	ctx := context.Background()
	for name, garbage := range map[string][]byte{"empty": {}, "binary": {0, 0xff, 0x7b}, "truncated": []byte(`{"formatVersion": 1, "kind"`), "other": []byte("{}\n")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			state := dir + "/state"
			c := onDisk(dir, mixedCertificate("web"))
			s := open(t, state)
			lock(t, s)
			if err := commit(s, c.at("one"), onDisk(dir, plainCertificate("other")).at("one")); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"lock", "records/certificates/web.json", "journal/20300101T000000Z-aaaaaaaaaaaa-000001.commit", "journal/20300101T000000Z-aaaaaaaaaaaa-000001.intent", "journal/what"} {
				if err := os.WriteFile(filepath.Join(state, file), garbage, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			plan := open(t, state)
			if obs, err := plan.Read(ctx, c.outputs[0]); err != nil || !obs.Exists {
				t.Fatal(obs, err)
			}
			if r, err := plan.Record(ctx, c.id); r != nil || err != nil || len(plan.Notices()) != 1 {
				t.Fatal(r, err)
			}
			notices, err := s.Recover(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := s.Record(ctx, c.id); r != nil || err != nil {
				t.Fatal(r, err)
			}
			notices = append(notices, s.Notices()...)
			if len(notices) != 4 {
				t.Errorf("notices: %+v", notices)
			}
			if ids, err := s.Records(ctx); err != nil || len(ids) != 1 {
				t.Errorf("%v, %v", ids, err)
			}
			if notices, err := s.Recover(ctx); err != nil || len(notices) > 0 {
				t.Errorf("once more: %v, %v", notices, err)
			}
			if aside, err := os.ReadDir(state + "/corrupt"); err != nil || len(aside) != 4 {
				t.Errorf("%v, %v", aside, err)
			}
			if err := commit(s, c.at("two")); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("directories", func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"journal", "records", "archive"} {
			if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := onDisk(dir, mixedCertificate("web"))
		if obs, err := open(t, dir).Read(ctx, c.outputs[0]); err != nil || obs.Exists {
			t.Fatal(obs, err)
		}
		s := open(t, dir)
		lock(t, s)
		if n := s.Notices(); len(n) != 3 {
			t.Errorf("%v", n)
		}
		if err := commit(s, c.at("one")); err != nil {
			t.Fatal(err)
		}
	})
}

// A record of a newer version is no garbage: it is an error, and stays.
func TestNewerRecord(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	c := onDisk(dir, plainCertificate("web"))
	s := open(t, dir+"/state")
	lock(t, s)
	if err := commit(s, c.at("one")); err != nil {
		t.Fatal(err)
	}
	path := dir + "/state/records/certificates/web.json"
	for _, newer := range []string{`{"formatVersion":2,"kind":"certificate","name":"web"}`, `{"formatVersion":3,"kind":["other"],"outputs":{}}`} {
		if err := os.WriteFile(path, []byte(newer), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*files.Store{s, open(t, dir+"/state")} {
			r, err := s.Record(ctx, c.id)
			if r != nil || err == nil || err.Error() != path+" was written by a newer version of certsync" {
				t.Errorf("have %v, %v", r, err)
			}
		}
		if notices, err := s.Recover(ctx); err != nil || len(notices) > 0 {
			t.Errorf("%v, %v", notices, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != newer {
			t.Errorf("%q, %v", data, err)
		}
	}
	if aside, err := os.ReadDir(dir + "/state/corrupt"); err != nil || len(aside) > 0 {
		t.Errorf("%v, %v", aside, err)
	}
}

// PITFALLS 11: a full disk leaves the old set, and nothing else.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs root on linux, to mount a small tmpfs")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dir).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount: %v: %s", err, out)
		}
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	c := onDisk(dir, mixedCertificate("web"))
	s := open(t, t.TempDir())
	lock(t, s)
	if err := commit(s, c.at("one")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	next := c.at("two")
	for i := range next.Write {
		next.Write[i].Data = make([]byte, 100_000)
	}
	if err := commit(s, next); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("no ENOSPC, but %v", err)
	}
	if after := tree(t, dir); after != before {
		t.Fatalf("was:\n%s\nis:\n%s", before, after)
	}
	if err := commit(s, c.at("two")); err != nil {
		t.Fatal(err)
	}
}

// tree lists a directory with the contents of its files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", path, info.Mode())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		case info.Mode()&os.ModeSymlink != 0:
			text, err := os.Readlink(path)
			if err != nil {
				return err
			}
			b.WriteString(" -> " + text)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Ten thousand directories do not need ten thousand descriptors.
func TestManyDirectories(t *testing.T) {
	n := 1500
	if testing.Short() {
		n = 200
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	s := open(t, dir+"/state")
	lock(t, s)
	var sets []reconcile.Set
	var outputs []spec.Output
	for i := range n {
		c := onDisk(fmt.Sprintf("%s/%d", dir, i), plainCertificate(fmt.Sprint("web", i)))
		sets, outputs = append(sets, c.at("one")), append(outputs, c.outputs...)
	}
	if err := s.Prepare(context.Background(), outputs); err != nil {
		t.Fatal(err)
	}
	if err := commit(s, sets...); err != nil {
		t.Fatal(err)
	}
}

// On a read-only filesystem there is one error, and nothing is left to clean up.
func TestReadOnly(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs root on linux, to mount a tmpfs")
	}
	dir, state := t.TempDir(), t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	o := spec.Output{Form: spec.FormFullChain, Path: dir + "/web.crt", Mode: 0o644}
	set := reconcile.Set{ID: spec.ID{Kind: spec.KindCertificate, Name: "web"}, Write: []reconcile.File{{Output: o, Data: []byte("new")}}}
	err := applyAt(files.Disk, state, set)
	if want := "write " + o.Path + ": read-only file system"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
	if left := below(t, state); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// However an apply fails, the journal is empty after the next one that does not.
func TestJournalAfterFailure(t *testing.T) {
	elsewhere := func(path string) func(dir string) string { return func(string) string { return path } }
	for name, target := range map[string]func(dir string) string{
		"no directory in proc": elsewhere("/proc/certsync/web.crt"),
		"no file in proc":      elsewhere("/proc/web.crt"),
		"no directory in sys":  elsewhere("/sys/certsync/deeper/web.crt"),
		"no file in sys":       elsewhere("/sys/kernel/web.crt"),
		"set in proc":          elsewhere("/proc/certsync/web.crt"),
		"dangling":             func(dir string) string { return dir + "/dangling/web.crt" },
		"file as directory":    func(dir string) string { return dir + "/file/web.crt" },
		"directory":            func(dir string) string { return dir + "/directory" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := memoryDir(t)
			err := errors.Join(os.Symlink("/nonexist", dir+"/dangling"), os.Mkdir(dir+"/directory", 0o755), os.WriteFile(dir+"/file", nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			state := dir + "/state"
			c := onDisk(dir, mixedCertificate("web"))
			bad := c.at("two")
			o := spec.Output{Form: spec.FormFullChain, Path: target(dir), Mode: 0o644}
			if strings.HasPrefix(name, "set") {
				o.Dir = filepath.Dir(o.Path)
			}
			bad.Write = append(bad.Write, reconcile.File{Output: o, Data: []byte("new")})
			outputs := append([]spec.Output{o}, c.outputs...)
			journal := func() int {
				t.Helper()
				entries, err := os.ReadDir(state + "/journal")
				if err != nil {
					t.Fatal(err)
				}
				return len(entries)
			}
			run := func(set reconcile.Set) (err error) {
				t.Helper()
				s := open(t, state)
				release, lerr := s.Lock("certsync apply")
				if lerr != nil {
					t.Fatal(lerr)
				}
				defer func() {
					if err := release(); err != nil {
						t.Error(err)
					}
				}()
				if err := s.Prepare(context.Background(), outputs); err != nil {
					t.Error(err)
				}
				return commit(s, set)
			}
			for range 3 {
				if err := run(bad); err == nil {
					t.Fatalf("%s was written", o.Path)
				}
				if n := journal(); n > 0 {
					t.Errorf("%d files in the journal after a failure", n)
				}
			}
			if err := run(c.at("three")); err != nil {
				t.Fatal(err)
			}
			if n := journal(); n > 0 {
				t.Errorf("%d files in the journal after a success", n)
			}
			if left := below(t, dir); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}
