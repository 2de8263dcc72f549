package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// The two halves of a pair are to be compared within one run: absolute times say
// more about the machine.

func BenchmarkRead(b *testing.B) {
	path := b.TempDir() + "/web.crt"
	if err := os.WriteFile(path, make([]byte, 1200), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Run("store", func(b *testing.B) {
		s, ctx := open(b, b.TempDir()), context.Background()
		o := spec.Output{Form: spec.FormCertificate, Path: path, Mode: 0o644}
		for b.Loop() {
			if _, err := s.Read(ctx, o); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os.ReadFile", func(b *testing.B) {
		for b.Loop() {
			if _, err := os.ReadFile(path); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCommit writes 1,000 sets of two files and a record.
func BenchmarkCommit(b *testing.B) {
	const n = 1000
	data := make([]byte, 1200)
	sets := func(dir string) []reconcile.Set {
		var sets []reconcile.Set
		for i := range n {
			c := onDisk(dir, plainCertificate(fmt.Sprint("web", i)))
			set := c.at("one")
			for j := range set.Write {
				set.Write[j].Data = data
			}
			sets = append(sets, set)
		}
		return sets
	}
	apply := func(b *testing.B, dir string) {
		s := open(b, dir+"/state")
		release, err := s.Lock("bench")
		if err == nil {
			err = errors.Join(commit(s, sets(dir)...), release())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("create", func(b *testing.B) {
		for b.Loop() {
			apply(b, b.TempDir())
		}
	})
	b.Run("replace with archive", func(b *testing.B) {
		dir := b.TempDir()
		apply(b, dir)
		for b.Loop() {
			apply(b, dir)
		}
	})
	b.Run("fsync per file", func(b *testing.B) {
		for b.Loop() {
			dir := b.TempDir()
			for i := range n {
				for _, ext := range []string{"crt", "key"} {
					f, err := os.OpenFile(fmt.Sprintf("%s/web%d.%s", dir, i, ext), os.O_CREATE|os.O_WRONLY, 0o600)
					if err == nil {
						_, err = f.Write(data)
						err = errors.Join(err, f.Sync(), f.Close())
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
}
