package files_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/backends/files/filestest"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// applyAt is apply in a state directory on the real disk.
func applyAt(disk files.FS, state string, sets ...reconcile.Set) error {
	s, err := files.Open(state, files.WithFS(disk), files.WithClock(clock()))
	if err != nil {
		return err
	}
	release, err := s.Lock("certsync apply")
	if err != nil {
		return err
	}
	return errors.Join(commit(s, sets...), release())
}

// interrupt kills an apply at its n-th operation. It reports false if there are
// not so many.
func interrupt(state string, n int, sets ...reconcile.Set) bool {
	f := filestest.CrashAt(files.Disk, n)
	_ = applyAt(f, state, sets...)
	return f.Fired()
}

// view is what Read and Record say of a certificate, without what differs
// between two projects: the project's directory.
func view(t *testing.T, s *files.Store, project string, c certificate) string {
	t.Helper()
	var b strings.Builder
	for _, o := range c.outputs {
		obs, err := s.Read(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		generation, _, _ := strings.Cut(string(obs.Data), " ")
		fmt.Fprintf(&b, "%s %v %s %q\n", strings.TrimPrefix(o.Path, project), obs.Exists, generation, obs.Drift)
	}
	r, err := s.Record(context.Background(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	if r != nil {
		fmt.Fprintf(&b, "record %s\n", r.Fingerprint)
	}
	return b.String()
}

// recoverAt recovers a state directory and returns what it says, and checks that
// Read's view is the same before and after.
func recoverAt(t *testing.T, state, project string, c certificate) (got string, notices []files.Notice) {
	t.Helper()
	before := view(t, open(t, state), project, c)
	s := open(t, state)
	release, err := s.Lock("certsync apply")
	if err != nil {
		t.Fatal(err)
	}
	notices, err = s.Recover(context.Background())
	if err := errors.Join(err, release()); err != nil {
		t.Fatal(err)
	}
	if got = view(t, open(t, state), project, c); got != before {
		t.Fatalf("read before recovery:\n%safter:\n%s", before, got)
	}
	return got, notices
}

// below lists the names of temporaries and of what is in the journal.
func below(t *testing.T, dir string) (left []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if strings.Contains(path, ".certsync-") || filepath.Base(filepath.Dir(path)) == "journal" {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// projects runs f for an apply that is killed at many a point, of a project that
// is in the first of two directories.
func projects(t *testing.T, f func(t *testing.T, p, q string, at func(project string) certificate, before, after string)) {
	c := mixedCertificate("web")
	for name, change := range map[string]func(certificate) reconcile.Set{
		"replace": func(c certificate) reconcile.Set { return c.at("two") },
		"remove":  certificate.removed,
		"member":  func(c certificate) reconcile.Set { return c.without("two", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			at := func(project string) certificate { return onDisk(project, c) }
			step := 1
			if testing.Short() {
				step = 7
			}
			for n := 1; ; n += step {
				dir := memoryDir(t)
				p, q := dir+"/p", dir+"/q"
				if err := os.Mkdir(p, 0o755); err != nil {
					t.Fatal(err)
				}
				state := p + "/.certsync"
				if err := applyAt(files.Disk, state, at(p).at("one")); err != nil {
					t.Fatal(err)
				}
				before := view(t, open(t, state), p, at(p))
				copyTree(t, p, dir+"/done")
				if err := applyAt(files.Disk, dir+"/done/.certsync", change(at(dir+"/done"))); err != nil {
					t.Fatal(err)
				}
				after := view(t, open(t, dir+"/done/.certsync"), dir+"/done", at(dir+"/done"))
				if !interrupt(state, n, change(at(p))) {
					break
				}
				f(t, p, q, at, before, after)
				if t.Failed() {
					t.Fatalf("killed at operation %d", n)
				}
			}
		})
	}
}

// Recovery in a copy of a project completes the copy, and leaves the original as
// it is.
func TestRecoverCopy(t *testing.T) {
	projects(t, func(t *testing.T, p, q string, at func(string) certificate, before, after string) {
		copyTree(t, p, q)
		original := tree(t, p)
		got, notices := recoverAt(t, q+"/.certsync", q, at(q))
		if got != before && got != after {
			t.Errorf("the copy has:\n%swant:\n%sor:\n%s", got, before, after)
		}
		if left := below(t, q); len(left) > 0 || len(notices) > 0 {
			t.Errorf("left: %q, notices: %q", left, notices)
		}
		if now := tree(t, p); now != original {
			t.Errorf("the original was:\n%s\nis:\n%s", original, now)
		}
		if again, _ := recoverAt(t, p+"/.certsync", p, at(p)); again != got {
			t.Errorf("the original has:\n%sthe copy:\n%s", again, got)
		}
	})
}

// A project that was moved after a crash is completed where it is now.
func TestRecoverMoved(t *testing.T) {
	projects(t, func(t *testing.T, p, q string, at func(string) certificate, before, after string) {
		want := view(t, open(t, p+"/.certsync"), p, at(p))
		if err := os.Rename(p, q); err != nil {
			t.Fatal(err)
		}
		got, notices := recoverAt(t, q+"/.certsync", q, at(q))
		if got != want || got != before && got != after {
			t.Errorf("moved:\n%swas:\n%s", got, want)
		}
		if left := below(t, q); len(left) > 0 || len(notices) > 0 {
			t.Errorf("left: %q, notices: %q", left, notices)
		}
	})
}

// half returns a project with a commit that is in the journal, and not one rename
// of it done: one output is in the project, the other in a directory elsewhere.
func half(t *testing.T, dir, outside string) certificate {
	t.Helper()
	c := certificate{spec.ID{Kind: spec.KindCertificate, Name: "web"}, []spec.Output{
		{Form: spec.FormFullChain, Path: dir + "/p/pki/web.crt", Mode: 0o644},
		{Form: spec.FormPrivateKey, Path: outside + "/web.key", Mode: 0o600},
	}}
	state := dir + "/p/.certsync"
	if err := applyAt(files.Disk, state, c.at("one")); err != nil {
		t.Fatal(err)
	}
	at := 0
	probe := filestest.CrashAt(files.Disk, 1<<30)
	copyTree(t, dir, dir+".probe")
	t.Cleanup(func() {
		if err := os.RemoveAll(dir + ".probe"); err != nil {
			t.Error(err)
		}
	})
	probe.Trace(func(n int, op, name string) {
		if op == "rename" && strings.HasSuffix(filepath.Dir(name), "/pki") {
			at = n
		}
	})
	moved := certificate{c.id, nil}
	for _, o := range c.outputs {
		o.Path = dir + ".probe" + strings.TrimPrefix(o.Path, dir)
		moved.outputs = append(moved.outputs, o)
	}
	if err := applyAt(probe, dir+".probe/p/.certsync", moved.at("two")); err != nil || at == 0 {
		t.Fatal(at, err)
	}
	if !interrupt(state, at, c.at("two")) {
		t.Fatal("not interrupted")
	}
	if commits, _ := filepath.Glob(state + "/journal/*.commit"); len(commits) != 1 {
		t.Fatalf("%q", commits)
	}
	return c
}

// What is no part of the copy is for the original to complete: an absolute path,
// or one through a symbolic link.
func TestCopyLeavesOutside(t *testing.T) {
	for name, setup := range map[string]func(t *testing.T, dir string) string{
		"absolute": func(_ *testing.T, dir string) string { return dir + "/out" },
		"link": func(t *testing.T, dir string) string {
			if err := errors.Join(os.MkdirAll(dir+"/p", 0o755), os.Mkdir(dir+"/out", 0o755), os.Symlink("../out", dir+"/p/tls")); err != nil {
				t.Fatal(err)
			}
			return dir + "/p/tls"
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := memoryDir(t)
			c := half(t, dir, setup(t, dir))
			copyTree(t, dir+"/p", dir+"/q")
			original := tree(t, dir+"/p") + tree(t, dir+"/out")
			in := certificate{c.id, []spec.Output{c.outputs[0], c.outputs[1]}}
			in.outputs[0].Path = dir + "/q/pki/web.crt"
			got, notices := recoverAt(t, dir+"/q/.certsync", dir+"/q", in)
			if !strings.Contains(got, "record one") || !strings.Contains(got, "/pki/web.crt true one") {
				t.Errorf("the copy has:\n%s", got)
			}
			if left := below(t, dir+"/q"); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			aside, err := os.ReadDir(dir + "/q/.certsync/corrupt")
			if err != nil || len(aside) != 2 || len(notices) != 2 {
				t.Errorf("set aside: %v, notices: %q", aside, notices)
			}
			for _, n := range notices {
				want := ": it was written by the state directory " + dir + "/p/.certsync, of which this one is a copy, and is about "
				if !strings.HasPrefix(n.Message, n.Path+want) {
					t.Errorf("%s", n.Message)
				}
			}
			if now := tree(t, dir+"/p") + tree(t, dir+"/out"); now != original {
				t.Errorf("the original was:\n%s\nis:\n%s", original, now)
			}
			got, notices = recoverAt(t, dir+"/p/.certsync", dir+"/p", c)
			if strings.Count(got, "two") != 3 || len(notices) > 0 {
				t.Errorf("the original has:\n%s%q", got, notices)
			}
			if left := append(below(t, dir+"/p"), below(t, dir+"/out")...); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// A state directory that was moved, or whose device has another number since the
// machine was started, is no copy: it completes what is elsewhere, too.
func TestMovedCompletesOutside(t *testing.T) {
	t.Run("moved", func(t *testing.T) {
		dir := memoryDir(t)
		c := half(t, dir, dir+"/out")
		if err := os.Rename(dir+"/p", dir+"/q"); err != nil {
			t.Fatal(err)
		}
		c.outputs[0].Path = dir + "/q/pki/web.crt"
		got, notices := recoverAt(t, dir+"/q/.certsync", dir+"/q", c)
		if strings.Count(got, "two") != 3 || len(notices) > 0 {
			t.Errorf("%s%q", got, notices)
		}
	})
	t.Run("device", func(t *testing.T) {
		dir := memoryDir(t)
		c := half(t, dir, dir+"/out")
		names, err := filepath.Glob(dir + "/p/.certsync/journal/*")
		if err != nil || len(names) != 2 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := bytes.Cut(data, []byte("\n"))
			other := regexp.MustCompile(`"device":\d+`).ReplaceAll(body, []byte(`"device":424242`))
			if bytes.Equal(body, other) {
				t.Fatalf("no device in %s", body)
			}
			data = fmt.Appendf(nil, "certsync journal sha256:%x\n%s", sha256.Sum256(other), other)
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, notices := recoverAt(t, dir+"/p/.certsync", dir+"/p", c)
		if strings.Count(got, "two") != 3 || len(notices) > 0 {
			t.Errorf("%s%q", got, notices)
		}
	})
}
