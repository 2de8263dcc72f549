package files_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// What is not a regular file is an error for reading and for writing, and stays.
func TestTargetsThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(dir+"/real", []byte("x"), 0o600))
	must(os.Symlink("real", dir+"/link"))
	must(os.Mkdir(dir+"/dir", 0o700))
	must(syscall.Mkfifo(dir+"/fifo", 0o600))
	must(os.WriteFile(dir+"/large", make([]byte, 4<<20+1), 0o600))
	before := tree(t, dir)
	s := open(t, t.TempDir())
	lock(t, s)
	ctx := context.Background()
	for path, want := range map[string]string{
		"/link":      "it is a symbolic link to real",
		"/dir":       "it is a directory",
		"/fifo":      "it is a fifo",
		"/real/file": "not a directory",
	} {
		o := spec.Output{Form: spec.FormPrivateKey, Path: dir + path, Mode: 0o600}
		_, err := s.Read(ctx, o)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "read "+dir+path) {
			t.Errorf("read %s: %v", path, err)
		}
		err = commit(s, reconcile.Set{ID: spec.ID{Kind: spec.KindCertificate, Name: "web"}, Write: []reconcile.File{{Output: o, Data: []byte("new")}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("write %s: %v", path, err)
		}
		var hint interface{ Hint() string }
		if path == "/link" && !errors.As(err, &hint) {
			t.Errorf("no hint in %v", err)
		}
	}
	if _, err := s.Read(ctx, spec.Output{Path: dir + "/large"}); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Error(err)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("was:\n%s\nis:\n%s", before, after)
	}
	obs, err := s.Read(ctx, spec.Output{Path: dir + "/none/at/all"})
	if err != nil || obs.Exists {
		t.Error(obs, err)
	}
}

// A directory that leads to the targets may be a symbolic link.
func TestLinkedParent(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/real", 0o755), os.Symlink("real", dir+"/etc")); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir+"/state")
	lock(t, s)
	c := onDisk(dir, mixedCertificate("web"))
	for _, g := range []string{"one", "two"} {
		if err := commit(s, c.at(g)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir + "/real/tls/web.crt"); err != nil {
		t.Error(err)
	}
}

// A link to nothing is no place for a directory, and the error says so.
func TestDanglingParent(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink("/nonexist", dir+"/etc"), os.Symlink("nothing", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir+"/state")
	lock(t, s)
	err := commit(s, onDisk(dir, plainCertificate("web")).at("one"))
	if want := "create directory " + dir + "/etc: it is a dangling symbolic link, to /nonexist"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
	for _, state := range []string{"/link", "/link/state"} {
		_, err = open(t, dir+state).Lock("certsync test")
		if want := "state directory: create directory " + dir + "/link: it is a dangling symbolic link, to nothing"; err == nil || err.Error() != want {
			t.Errorf("have %v, want %s", err, want)
		}
	}
}

// The file that a link of a directory set points to is no better a target.
func TestMemberAsPlainTarget(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(dir, dirCertificate("api"))
	s := open(t, dir+"/state")
	lock(t, s)
	if err := commit(s, c.at("one")); err != nil {
		t.Fatal(err)
	}
	o := spec.Output{Form: spec.FormPrivateKey, Path: c.outputs[1].Path, Mode: 0o600}
	_, err := s.Read(context.Background(), o)
	set := reconcile.Set{ID: spec.ID{Kind: spec.KindCertificate, Name: "web"}, Write: []reconcile.File{{Output: o, Data: []byte("new")}}}
	for _, err := range []error{err, commit(s, set)} {
		var hint interface{ Hint() string }
		if !errors.As(err, &hint) || !strings.HasPrefix(hint.Hint(), "the path belongs to a directory set: ") {
			t.Errorf("hint of %v: %v", err, hint)
		}
	}
}

// An observation tells which file was read, whatever led to it.
func TestObservedFile(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(dir, mixedCertificate("web"))
	s := open(t, dir+"/state")
	lock(t, s)
	if err := commit(s, c.at("one")); err != nil {
		t.Fatal(err)
	}
	for _, o := range c.outputs {
		info, err := os.Stat(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		obs, err := s.Read(context.Background(), o)
		if want := (reconcile.FileID{Device: uint64(st.Dev), Inode: st.Ino}); err != nil || obs.File != want {
			t.Errorf("%s: have %v, want %v, %v", o.Path, obs.File, want, err)
		}
	}
	obs, err := s.Read(context.Background(), spec.Output{Path: dir + "/none"})
	if err != nil || obs.File != (reconcile.FileID{}) {
		t.Error(obs, err)
	}
}

func TestDrift(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/web.key"
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	s := open(t, t.TempDir())
	other := fmt.Sprint(os.Getuid() + 4242)
	obs, err := s.Read(context.Background(), spec.Output{Path: path, Mode: 0o600, Owner: other, Group: fmt.Sprint(os.Getgid())})
	if err != nil || len(obs.Drift) != 2 || obs.Drift[0] != "mode is 4644, want 0600" || !strings.HasSuffix(obs.Drift[1], ", want "+other) {
		t.Errorf("%q, %v", obs.Drift, err)
	}
	if _, err := s.Read(context.Background(), spec.Output{Path: path, Owner: "no-such-user"}); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Error(err)
	}
}

// Nothing that a failed or discarded Stage made stays, directories included.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	s := open(t, t.TempDir())
	lock(t, s)
	before := tree(t, dir)
	ctx := context.Background()
	a, b := onDisk(dir, mixedCertificate("a")), onDisk(dir, mixedCertificate("b"))
	stagedA, err := s.Stage(ctx, a.at("one"))
	if err != nil {
		t.Fatal(err)
	}
	stagedB, err := s.Stage(ctx, b.at("one"))
	if err != nil {
		t.Fatal(err)
	}
	if err := stagedA.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Commit(ctx, []reconcile.Staged{stagedB})...); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stagedB.Discard(), commit(s, b.removed())); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"/etc/tls", "/etc/keys", "/etc", "/srv"} { // those of a committed set stay, empty
		if err := os.Remove(dir + sub); err != nil {
			t.Error(err)
		}
	}
	if after := tree(t, dir); after != before {
		t.Errorf("was:\n%s\nis:\n%s", before, after)
	}

	bad := a.at("two")
	bad.Write[len(bad.Write)-1].Output.Owner = "no-such-user"
	if err := commit(s, bad); err == nil {
		t.Error("an unknown owner is accepted")
	}
	ctx, cancel := context.WithCancel(ctx)
	stagedA, err = s.Stage(ctx, a.at("one"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if errs := s.Commit(ctx, []reconcile.Staged{stagedA, stagedA}); !errors.Is(errs[0], context.Canceled) || errs[1] == nil {
		t.Error(errs)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("was:\n%s\nis:\n%s", before, after)
	}
}

// Somebody else's files in the directory of a set stay, and only the present
// version and that before it are kept.
func TestDirectoryKeepsForeignFiles(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(dir, dirCertificate("api"))
	set := c.outputs[0].Dir
	if err := errors.Join(os.MkdirAll(set+"/..kubelet", 0o755), os.WriteFile(set+"/README", nil, 0o644), os.WriteFile(set+"/.x.certsync-0123456789ab-1", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir+"/state")
	lock(t, s)
	for g := range 5 {
		if err := commit(s, c.at(fmt.Sprint(g))); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(set)
	if err != nil || len(entries) != 9 { // three links, ..data, two versions, three of others
		t.Errorf("%v, %v", entries, err)
	}
	if err := commit(s, c.removed()); err != nil {
		t.Fatal(err)
	}
	if entries, err = os.ReadDir(set); err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}

// The contract allows concurrent Stage, Read and Record, also during a Commit.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir+"/state")
	lock(t, s)
	ctx := context.Background()
	var workers sync.WaitGroup
	staged := make(chan reconcile.Staged)
	for w := range 4 {
		workers.Go(func() {
			for i := range 10 {
				c := onDisk(dir, mixedCertificate(fmt.Sprintf("web%d-%d", w, i%3)))
				st, err := s.Stage(ctx, c.at(fmt.Sprint(i)))
				if err != nil {
					t.Error(err)
					return
				}
				if i%4 == 3 {
					if err := st.Discard(); err != nil {
						t.Error(err)
					}
					continue
				}
				staged <- st
				for _, o := range c.outputs {
					if _, err := s.Read(ctx, o); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Record(ctx, c.id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		workers.Wait()
		close(staged)
	}()
	for st := range staged {
		if err := errors.Join(s.Commit(ctx, []reconcile.Staged{st})...); err != nil {
			t.Error(err)
		}
	}
}

// Without permission there is an error, never an absence, and nothing changes.
// Root may do anything, so the test runs itself as another user.
func TestNoPermission(t *testing.T) {
	if dir := os.Getenv("FILES_TEST_DIR"); dir != "" {
		noPermission(t, dir)
		return
	}
	dir := t.TempDir()
	if os.Getuid() != 0 {
		noPermission(t, dir)
		return
	}
	for p := dir; p != "/"; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err != nil || info.Mode()&0o001 == 0 {
			if err := os.Chmod(p, info.Mode()|0o055); err != nil {
				t.Fatal(err)
			}
		}
	}
	exe := dir + "/test"
	data, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(exe, data, 0o755), os.Mkdir(dir+"/work", 0o755), os.Chown(dir+"/work", 65534, 65534))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestNoPermission$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "FILES_TEST_DIR="+dir+"/work")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func noPermission(t *testing.T, dir string) {
	c := onDisk(dir, plainCertificate("web"))
	s := open(t, dir+"/state")
	lock(t, s)
	if err := commit(s, c.at("one")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir+"/etc")
	if err := os.Chmod(dir+"/etc/keys", 0o555); err != nil {
		t.Fatal(err)
	}
	if err := commit(s, c.at("two")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("read-only directory: %v", err)
	}
	if err := os.Chmod(dir+"/etc/keys", 0o000); err != nil {
		t.Fatal(err)
	}
	key := c.outputs[1]
	if _, err := s.Read(context.Background(), key); err == nil || err.Error() != "read "+key.Path+": permission denied" {
		t.Errorf("closed directory: %v", err)
	}
	if err := commit(s, c.removed()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("remove in a closed directory: %v", err)
	}
	missing := c.at("two")
	missing.Archive = nil
	missing.Write[0].Output.Path = "/proc/new/web.crt"
	if err := commit(s, missing); err == nil || !strings.Contains(err.Error(), "create directory /proc/new") {
		t.Errorf("missing directory: %v", err)
	}
	if err := os.Chmod(dir+"/etc/keys", 0o755); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, dir+"/etc"); after != before {
		t.Errorf("was:\n%s\nis:\n%s", before, after)
	}
}
