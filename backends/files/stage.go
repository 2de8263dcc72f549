package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"unicode/utf8"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// staged is a set beside its targets, and what its commit has to do. Only the
// goroutine that stages changes it until Stage returns; then only Commit or
// Discard does, under mu.
type staged struct {
	s   *Store
	set reconcile.Set
	mu  sync.Mutex
	// over is set once the set is committed or discarded.
	over bool

	steps   []step
	dirs    map[string]Info           // the directories with steps, as they were
	syncs   map[string]bool           // directories whose entries the commit relies on
	files   []string                  // files whose content it relies on
	temps   []temp                    // what a discard removes
	created []string                  // directories made for it, deepest first
	tidy    []func(c *dirCache) error // what to remove once it is committed
}

// temp is something that was staged: a file, a link or a directory.
type temp struct {
	dir, name string
	tree      bool
}

var _ reconcile.Staged = (*staged)(nil)

// Stage writes a set beside its targets; see reconcile.Store.
func (s *Store) Stage(ctx context.Context, set reconcile.Set) (reconcile.Staged, error) {
	st, err := s.stage(ctx, set)
	if err != nil {
		return nil, err // not a typed nil
	}
	return st, nil
}

func (s *Store) stage(ctx context.Context, set reconcile.Set) (*staged, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if err := checkSet(set); err != nil {
		return nil, err
	}
	if err := s.blocked(set); err != nil {
		return nil, err
	}
	st := &staged{s: s, set: set, dirs: map[string]Info{}, syncs: map[string]bool{}}
	s.mu.Lock()
	s.staged++
	s.mu.Unlock()
	if err := st.fill(ctx); err != nil {
		return nil, errors.Join(err, st.Discard())
	}
	return st, nil
}

// fill stages everything. The record's step is the last: when it is done, all is.
func (st *staged) fill(ctx context.Context) error {
	old, err := st.readArchive(ctx)
	if err != nil {
		return err
	}
	if err := st.s.intend(st.stageDirs(len(old) > 0)); err != nil {
		return err
	}
	if len(old) > 0 {
		if err := st.writeArchive(old); err != nil {
			return err
		}
	}
	members := map[string]*memberChange{}
	for _, f := range st.set.Write {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.Output.Dir != "" {
			memberOf(members, f.Output).write = append(memberOf(members, f.Output).write, f)
		} else if err := st.writePlain(f); err != nil {
			return err
		}
	}
	for _, o := range st.set.Remove {
		if o.Dir != "" {
			memberOf(members, o).remove = append(memberOf(members, o).remove, o)
		} else if err := st.removePlain(o); err != nil {
			return err
		}
	}
	for _, dir := range sortedKeys(members) {
		if err := st.changeDir(dir, members[dir]); err != nil {
			return err
		}
	}
	return st.writeRecord()
}

// stageDirs returns where the set is staged, for the intent record. The state's
// own records are always looked after.
func (st *staged) stageDirs(archive bool) []string {
	dirs := map[string]bool{}
	for _, f := range st.set.Write {
		dirs[targetDir(f.Output)] = true
	}
	for _, o := range st.set.Remove {
		dirs[targetDir(o)] = true
	}
	if archive {
		dirs[st.s.path(archiveDir)] = true
	}
	return sortedKeys(dirs)
}

func checkSet(set reconcile.Set) error {
	seen := map[string]bool{}
	check := func(o spec.Output) error {
		switch {
		case !filepath.IsAbs(o.Path) || filepath.Clean(o.Path) != o.Path || o.Path == "/":
			return fmt.Errorf("%s: not an absolute, clean path", o.Path)
		case o.Dir != "" && filepath.Dir(o.Path) != o.Dir:
			return fmt.Errorf("%s: not in the directory set %s", o.Path, o.Dir)
		case !utf8.ValidString(o.Path):
			return fmt.Errorf("%q: not valid UTF-8", o.Path)
		case seen[o.Path]:
			return fmt.Errorf("%s: changed twice", o.Path)
		}
		seen[o.Path] = true
		return nil
	}
	for _, f := range set.Write {
		if err := check(f.Output); err != nil {
			return err
		}
	}
	for _, o := range set.Remove {
		if err := check(o); err != nil {
			return err
		}
	}
	return nil
}

// blocked fails for a set that touches what an interrupted commit has yet to
// rename and cannot: finished later, that would undo a part of the set.
func (s *Store) blocked(set reconcile.Set) error {
	p, err := s.pendingView()
	if err != nil || p.empty() {
		return err
	}
	paths := []string{s.recordPath(set.ID)}
	for _, f := range set.Write {
		paths = append(paths, f.Output.Path, filepath.Join(f.Output.Dir, dataLink))
	}
	for _, o := range set.Remove {
		paths = append(paths, o.Path, filepath.Join(o.Dir, dataLink))
	}
	for _, path := range paths {
		if _, ok := p.to[path]; ok {
			return fmt.Errorf("%s: an earlier change of it is unfinished", path)
		}
		if _, ok := p.away[path]; ok {
			return fmt.Errorf("%s: an earlier removal of it is unfinished", path)
		}
	}
	return nil
}

// writePlain stages one plain file.
func (st *staged) writePlain(f reconcile.File) error {
	o := f.Output
	uid, gid, err := st.s.owner.ids(o)
	if err != nil {
		return err
	}
	dir, base := filepath.Split(o.Path)
	return st.in(filepath.Clean(dir), 0o755, func(d *dirHandle) error {
		if _, err := lookTarget(d, base, "write", o.Path); err != nil {
			return err
		}
		name := st.s.tempName(base)
		if err := st.create(d, name, o.Mode, uid, gid, f.Data); err != nil {
			return opError("write", o.Path, err)
		}
		st.rename(d, name, base)
		return nil
	})
}

// removePlain stages the removal of a plain file, which may be gone already.
func (st *staged) removePlain(o spec.Output) error {
	dir, base := filepath.Split(o.Path)
	err := st.s.dirs.use(filepath.Clean(dir), func(d *dirHandle) error {
		info, err := lookTarget(d, base, "remove", o.Path)
		if err != nil || info.Ino == 0 {
			return err
		}
		st.moveAway(d, base, info)
		return nil
	})
	if isAbsent(err) {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) || isNotDir(err) {
		return opError("remove", o.Path, err)
	}
	return err
}

// lookTarget describes what is at a target, the zero Info if nothing is. What is
// not a regular file is an error.
func lookTarget(d Dir, base, op, path string) (Info, error) {
	info, err := d.Lstat(base)
	if isAbsent(err) {
		return Info{}, nil
	}
	if err != nil {
		return Info{}, opError(op, path, err)
	}
	if info.Mode&fs.ModeSymlink != 0 {
		text, _ := d.Readlink(base) // only for the message
		return Info{}, symlinkError(op, path, text)
	}
	if !info.Mode.IsRegular() {
		return Info{}, fmt.Errorf("%s %s: it is %s", op, path, kind(info.Mode))
	}
	return info, nil
}

// writeRecord stages the new record, or the removal of the old one.
func (st *staged) writeRecord() error {
	if st.set.Answered {
		if err := st.removePlain(spec.Output{Path: st.s.requestPath(st.set.ID)}); err != nil {
			return err
		}
	}
	path := st.s.recordPath(st.set.ID)
	dir, base := filepath.Split(path)
	if st.set.Record == nil {
		return st.removePlain(spec.Output{Path: path})
	}
	data, err := st.s.encodeRecord(st.set.Record)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return st.in(filepath.Clean(dir), 0o700, func(d *dirHandle) error {
		name := st.s.tempName(base)
		if err := st.create(d, name, 0o600, -1, -1, data); err != nil {
			return opError("write", path, err)
		}
		st.rename(d, name, base)
		return nil
	})
}

// in runs f with a directory, which it makes if it is not there.
func (st *staged) in(path string, mode fs.FileMode, f func(d *dirHandle) error) error {
	if err := st.ensureDir(path, mode); err != nil {
		return err
	}
	d, err := st.s.dirs.get(path)
	if err != nil {
		return parentError(path, err)
	}
	defer d.put()
	if was, ok := st.dirs[path]; ok {
		if err := d.verify(was); err != nil {
			return err
		}
	}
	st.dirs[path] = d.info
	st.syncs[path] = true
	return f(d)
}

// create stages a file. It is empty and its owner's alone until it has its final
// owner and mode, in this order: no one else can have opened it when the first
// byte is written.
func (st *staged) create(d *dirHandle, name string, mode fs.FileMode, uid, gid int, data []byte) error {
	st.temps = append(st.temps, temp{dir: d.path, name: name})
	st.files = append(st.files, filepath.Join(d.path, name))
	return createFile(d, name, mode, uid, gid, data)
}

func createFile(d Dir, name string, mode fs.FileMode, uid, gid int, data []byte) error {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	if uid >= 0 || gid >= 0 {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = writeFile(f, mode, data)
	}
	return errors.Join(err, f.Close())
}

// rename adds the step that makes a staged file visible.
func (st *staged) rename(d *dirHandle, from, to string) {
	st.steps = append(st.steps, step{Dir: d.path, From: from, To: to})
}

// moveAway adds the step that makes a target vanish.
func (st *staged) moveAway(d *dirHandle, name string, info Info) {
	aside := st.s.tempName(name)
	st.dirs[d.path] = d.info
	st.syncs[d.path] = true
	st.steps = append(st.steps, step{Dir: d.path, From: name, To: aside, Ino: info.Ino})
	t := temp{dir: d.path, name: aside, tree: info.Mode.IsDir()}
	st.tidy = append(st.tidy, func(c *dirCache) error { return st.s.removeTempIn(c, t) })
}

// Discard removes what was staged. What cannot be removed now is when the lock is
// given back, or at the next Recover.
func (st *staged) Discard() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over {
		return nil
	}
	err := st.removeTemps()
	st.end(true)
	return err
}

// end marks the set as done with. Directories that were made for it are removed
// again if it failed and nothing is in them.
func (st *staged) end(failed bool) {
	st.over = true
	st.s.releaseDirs(st.created, failed)
	st.s.mu.Lock()
	st.s.staged--
	st.s.mu.Unlock()
}

func (st *staged) removeTemps() error {
	var errs []error
	for _, t := range st.temps {
		if err := st.s.removeTemp(t); err != nil {
			errs = append(errs, err)
			st.s.keepForLater(t)
		}
	}
	return errors.Join(errs...)
}

// keepForLater remembers what could not be removed.
func (s *Store) keepForLater(t temp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leftover = append(s.leftover, t)
}

func (s *Store) removeTemp(t temp) error { return s.removeTempIn(s.dirs, t) }

// removeTempIn removes a temporary, if it was ever made: where that failed, such
// as in /proc or on a read-only filesystem, neither removing nor syncing works.
func (s *Store) removeTempIn(c *dirCache, t temp) error {
	err := c.use(t.dir, func(d *dirHandle) error {
		if _, err := d.Lstat(t.name); err != nil {
			return err
		}
		s.removedFrom(t.dir)
		if t.tree {
			return removeTree(d, t.name)
		}
		return d.Remove(t.name)
	})
	if isAbsent(err) {
		return nil
	}
	return err
}

// removeTree removes a directory and everything in it.
func removeTree(d Dir, name string) error {
	sub, err := d.OpenDir(name)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeQuietly(sub)
	names, err := sub.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		info, err := sub.Lstat(n)
		if err == nil && info.Mode.IsDir() {
			err = removeTree(sub, n)
		} else if err == nil {
			err = sub.Remove(n)
		}
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	return d.RemoveDir(name)
}
