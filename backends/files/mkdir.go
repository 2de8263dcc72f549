package files

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
)

// ensureDir makes a directory and its parents if they are not there, and
// remembers those that it made.
func (st *staged) ensureDir(path string, mode fs.FileMode) error {
	s := st.s
	s.createdMu.Lock()
	defer s.createdMu.Unlock()
	d, err := s.dirs.get(path)
	if err == nil {
		d.put()
		st.shareDirs(path)
		return nil
	}
	if !isAbsent(err) {
		return parentError(path, err)
	}
	return st.makeDirs(path, mode)
}

func (st *staged) makeDirs(path string, mode fs.FileMode) error {
	s := st.s
	parent := filepath.Dir(path)
	p, err := s.dirs.get(parent)
	if isAbsent(err) {
		if err := st.makeDirs(parent, mode|0o055); err != nil {
			return err
		}
		p, err = s.dirs.get(parent)
	}
	if err != nil {
		return parentError(parent, err)
	}
	defer p.put()
	if err := p.Mkdir(filepath.Base(path), mode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			if info, lerr := p.Lstat(filepath.Base(path)); lerr == nil && info.Mode.IsDir() {
				return nil // somebody else made it just now
			}
		}
		return mkdirError(p, path, err)
	}
	s.created[path] = 0
	st.shareDirs(path)
	return nil
}

// shareDirs notes that the set uses path. If it or a parent is new, its entry is
// to be made durable, and it is to stay as long as a set needs it.
func (st *staged) shareDirs(path string) {
	if len(st.s.created) == 0 {
		return
	}
	for p := path; ; p = filepath.Dir(p) {
		if _, ok := st.s.created[p]; ok && !slices.Contains(st.created, p) {
			st.s.created[p]++
			st.created = append(st.created, p)
			st.syncs[filepath.Dir(p)] = true
		}
		if p == filepath.Dir(p) {
			return
		}
	}
}

// releaseDirs ends a set's use of directories that were made.
func (s *Store) releaseDirs(created []string, failed bool) {
	if len(created) == 0 {
		return
	}
	s.createdMu.Lock()
	defer s.createdMu.Unlock()
	// Deepest first: a longer path is never above a shorter one.
	slices.SortFunc(created, func(a, b string) int { return len(b) - len(a) })
	for _, path := range created {
		users, ok := s.created[path]
		switch {
		case !ok: // another set that uses it was committed
		case !failed:
			delete(s.created, path)
		case users > 1:
			s.created[path] = users - 1
		default:
			delete(s.created, path)
			s.dirs.forget(path)
			s.removedFrom(filepath.Dir(path))
			err := s.dirs.use(filepath.Dir(path), func(d *dirHandle) error { return d.RemoveDir(filepath.Base(path)) })
			if err != nil && !isNotEmpty(err) && !isAbsent(err) {
				s.log.Debug("an empty directory stays", "path", path, "error", err)
			}
		}
	}
}
