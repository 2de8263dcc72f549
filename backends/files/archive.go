package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/certsync/certsync/spec"
)

// archived is one output as it was before the set.
type archived struct {
	output spec.Output
	content
}

// manifest describes a set in the archive.
type manifest struct {
	FormatVersion int            `json:"formatVersion"`
	Kind          spec.Kind      `json:"kind"`
	Name          string         `json:"name"`
	Files         []manifestFile `json:"files"`
}

type manifestFile struct {
	File  string    `json:"file"` // in the archive
	Path  string    `json:"path"` // where it was
	Dir   string    `json:"dir,omitempty"`
	Form  spec.Form `json:"form"`
	Mode  string    `json:"mode"`
	Owner int       `json:"owner"`
	Group int       `json:"group"`
}

const manifestName = "manifest.json"

// archivePath returns where the previous set of a certificate is kept.
func (st *staged) archivePath() string {
	return st.s.path(archiveDir, string(st.set.ID.Kind), escapeName(st.set.ID.Name))
}

// readArchive reads the outputs that are to be kept, as far as they exist.
func (st *staged) readArchive(ctx context.Context) ([]archived, error) {
	var old []archived
	for _, o := range st.set.Archive {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := st.s.read(o)
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		if c.exists {
			old = append(old, archived{o, c})
		}
	}
	return old, nil
}

// writeArchive stages the previous set: a directory that gets its name by a step
// of the commit, and then is the only one.
func (st *staged) writeArchive(old []archived) error {
	path := st.archivePath()
	return st.in(path, 0o700, func(d *dirHandle) error {
		name := st.s.tempName("new")
		if err := st.mkdir(d, name, 0o700); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		m := manifest{FormatVersion: 1, Kind: st.set.ID.Kind, Name: st.set.ID.Name}
		err := st.inside(d, name, func(sub *dirHandle) error {
			for _, a := range old {
				file := archiveName(a.output)
				if err := st.createInside(sub, file, 0o600, -1, -1, a.data); err != nil {
					return err
				}
				m.Files = append(m.Files, manifestFile{
					File: file, Path: a.output.Path, Dir: a.output.Dir, Form: a.output.Form,
					Mode: octal(a.info.Mode), Owner: a.info.UID, Group: a.info.GID,
				})
			}
			data, err := json.MarshalIndent(m, "", "  ")
			if err != nil {
				return err
			}
			return st.createInside(sub, manifestName, 0o600, -1, -1, append(data, '\n'))
		})
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		final := fmt.Sprintf("%s-%s-%x", st.s.now().UTC().Format(timeFormat), st.s.run, st.s.seq.Add(1))
		st.rename(d, name, final)
		st.tidy = append(st.tidy, func(c *dirCache) error { return st.s.pruneArchive(c, path, final) })
		return nil
	})
}

// pruneArchive removes all sets of a certificate but one.
func (s *Store) pruneArchive(c *dirCache, path, keep string) error {
	return c.use(path, func(d *dirHandle) error {
		names, err := d.Names()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range names {
			if name != keep && name[0] != '.' {
				s.removedFrom(path)
				errs = append(errs, removeTree(d, name))
			}
		}
		return errors.Join(errs...)
	})
}

// mkdir stages a directory, with exactly this mode.
func (st *staged) mkdir(d *dirHandle, name string, mode fs.FileMode) error {
	st.temps = append(st.temps, temp{dir: d.path, name: name, tree: true})
	if err := d.Mkdir(name, 0o700); err != nil {
		return err
	}
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer closeQuietly(sub)
	st.syncs[filepath.Join(d.path, name)] = true
	return sub.Chmod(mode)
}

// inside runs f with a directory that was just staged in d.
func (st *staged) inside(d *dirHandle, name string, f func(sub *dirHandle) error) error {
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer closeQuietly(sub)
	return f(&dirHandle{Dir: sub, path: filepath.Join(d.path, name)})
}

// createInside stages a file in a staged directory, which a discard removes with it.
func (st *staged) createInside(d *dirHandle, name string, mode fs.FileMode, uid, gid int, data []byte) error {
	st.files = append(st.files, filepath.Join(d.path, name))
	return createFile(d, name, mode, uid, gid, data)
}
