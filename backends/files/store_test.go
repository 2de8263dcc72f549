package files_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

func TestCommitPlain(t *testing.T) {
	dir := t.TempDir()
	s, err := files.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	release, err := s.Lock("test")
	if err != nil {
		t.Fatal(err)
	}
	id := spec.ID{Kind: spec.KindCertificate, Name: "web"}
	crt := spec.Output{Form: spec.FormCertificate, Path: filepath.Join(dir, "new/web.crt"), Mode: 0o644}
	key := spec.Output{Form: spec.FormPrivateKey, Path: filepath.Join(dir, "web.key"), Mode: 0o600}
	tls := spec.Output{Form: spec.FormPrivateKey, Path: filepath.Join(dir, "set/tls.key"), Dir: filepath.Join(dir, "set"), Mode: 0o600}
	ctx := context.Background()
	for _, gen := range []string{"one", "two", "three"} {
		st, err := s.Stage(ctx, reconcile.Set{
			ID:      id,
			Write:   []reconcile.File{{Output: crt, Data: []byte(gen)}, {Output: key, Data: []byte(gen)}, {Output: tls, Data: []byte(gen)}},
			Archive: []spec.Output{crt, key, tls},
			Record:  &reconcile.Record{FormatVersion: 1, Kind: id.Kind, Name: id.Name},
		})
		if err != nil {
			t.Fatal(err)
		}
		if errs := s.Commit(ctx, []reconcile.Staged{st}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		for _, o := range []spec.Output{crt, key, tls} {
			obs, err := s.Read(ctx, o)
			if err != nil || string(obs.Data) != gen || len(obs.Drift) > 0 || obs.Mode != o.Mode {
				t.Fatalf("%s: %+v %q %v", o.Path, obs, obs.Data, err)
			}
		}
		if r, err := s.Record(ctx, id); err != nil || r == nil {
			t.Fatal(r, err)
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	_ = filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		t.Log(p, i.Mode(), err)
		return nil
	})
}
