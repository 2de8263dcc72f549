package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/certsync/certsync/reconcile"
)

// A commit goes like this; each line is durable before the next one begins.
//
//  1. The staged files, and the directories that name them. Before that, each
//     target that will be replaced gets a second name (a hard link), for an undo.
//  2. A record in the journal with all renames of the batch. From here on, a
//     crash leads forward: the next run does the renames that are left.
//  3. The renames, the record of the certificate last in each set.
//  4. The record is removed from the journal, and then the second names.
//
// If a rename fails, what was renamed of its set is undone, so that the old set
// is there again; the other sets go on. An undo first brings the temporary names
// back, makes them durable, and only then restores the targets: at every moment
// the journal leads to the whole new set, should there be a crash. Only when the
// journal's record is durably gone are the temporaries removed.
//
// If the undo fails, too, the renames are tried once more; if they fail, or if it
// is not known whether they are durable, the record stays in the journal: Read
// takes the set as complete, and the next Stage or Recover completes it.
//
// A copy of the state directory has a copy of the journal. It completes there
// what is about files that were copied along, and nothing else: see journal.go.

// batch is a commit under way.
type batch struct {
	s    *Store
	dirs *dirCache // of its own: what the paths name now, not when staging
	sets []*staged
	errs []error // one for each set
	// undone tells the sets that are whole and old, though the journal has them.
	undone []bool
	// stuck tells that the journal's record must stay.
	stuck bool
	name  string // of the journal's record
}

// Commit makes staged sets visible; see reconcile.Store. Cancelling ctx has an
// effect until the journal's record is written; then the commit is finished.
func (s *Store) Commit(ctx context.Context, sets []reconcile.Staged) []error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	errs := make([]error, len(sets))
	b := &batch{s: s, dirs: newDirCache(s.fs)}
	defer b.dirs.reset()
	var index []int
	for i, set := range sets {
		st, ok := set.(*staged)
		if !ok || st.s != s {
			errs[i] = errors.New("commit: not a set of this store")
			continue
		}
		if slices.Contains(b.sets, st) {
			errs[i] = errors.New("commit: the set is given twice")
			continue
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.over {
			errs[i] = errors.New("commit: the set was committed or discarded before")
			continue
		}
		b.sets = append(b.sets, st)
		index = append(index, i)
	}
	b.errs = make([]error, len(b.sets))
	b.undone = make([]bool, len(b.sets))
	b.run(ctx)
	for i, err := range b.errs {
		errs[index[i]] = err
	}
	return errs
}

func (b *batch) run(ctx context.Context) {
	b.s.mu.Lock()
	locked := b.s.locked
	b.s.mu.Unlock()
	b.each(func(st *staged) error {
		if !locked {
			return errNotLocked
		}
		if err := b.s.blocked(st.set); err != nil {
			return err
		}
		return b.prepare(st)
	})
	b.syncStaged()
	b.each(func(*staged) error { return ctx.Err() })
	b.discardFailed()
	if b.live() == 0 {
		return
	}
	if err := b.writeJournal(); err != nil {
		b.abandon(err)
		return
	}
	b.each(b.rename)
	b.syncRenamed()
	b.finish()
}

// each runs f for the sets that have not failed.
func (b *batch) each(f func(*staged) error) {
	for i, st := range b.sets {
		if b.errs[i] == nil {
			b.errs[i] = f(st)
		}
	}
}

func (b *batch) live() (n int) {
	for _, err := range b.errs {
		if err == nil {
			n++
		}
	}
	return n
}

// prepare looks at the targets as they are now, and makes the second names that
// an undo needs.
func (b *batch) prepare(st *staged) error {
	for dir, was := range st.dirs {
		err := b.dirs.use(dir, func(d *dirHandle) error { return d.verify(was) })
		if err != nil {
			return parentError(dir, err)
		}
	}
	links := map[string]string{} // targets that an earlier step makes a link
	for i := range st.steps {
		s := &st.steps[i]
		err := b.dirs.use(s.Dir, func(d *dirHandle) error {
			if s.away() {
				// Gone, or another file by now: then it is not what was staged.
				if info, err := d.Lstat(s.From); err != nil || info.Ino != s.Ino {
					return fmt.Errorf("remove %s: it changed meanwhile", filepath.Join(s.Dir, s.From))
				}
				return nil
			}
			return b.backup(st, d, s, links)
		})
		if err != nil {
			return err
		}
		if s.link != "" {
			links[filepath.Join(s.Dir, s.To)] = s.link
		}
	}
	return nil
}

// backup keeps the target of a step under a second name.
func (b *batch) backup(st *staged, d *dirHandle, s *step, links map[string]string) error {
	path := filepath.Join(s.Dir, s.To)
	name := b.s.tempName(s.To)
	if text, ok := links[path]; ok {
		st.temps = append(st.temps, temp{dir: s.Dir, name: name})
		s.backup = name
		return d.Symlink(text, name)
	}
	info, err := d.Lstat(s.To)
	switch {
	case isAbsent(err):
		return nil
	case err != nil:
		return opError("replace", path, err)
	case info.Mode&fs.ModeSymlink != 0 && s.link != "":
		text, err := d.Readlink(s.To)
		if err != nil {
			return err
		}
		st.temps = append(st.temps, temp{dir: s.Dir, name: name})
		s.backup = name
		return d.Symlink(text, name)
	case !info.Mode.IsRegular():
		return fmt.Errorf("replace %s: it is %s", path, kind(info.Mode))
	}
	st.temps = append(st.temps, temp{dir: s.Dir, name: name})
	s.backup = name
	copied, err := b.s.duplicate(d, s.To, name, info)
	if err != nil {
		return opError("keep", path, err)
	}
	if copied { // unlike the file itself, it is not on the disk yet
		st.files = append(st.files, filepath.Join(s.Dir, name))
	}
	return nil
}

// duplicate gives a file a second name, or where that cannot be, copies it.
// Linux, too, may refuse the link of another user's file (protected_hardlinks).
func (s *Store) duplicate(d *dirHandle, from, to string, info Info) (copied bool, err error) {
	if err := d.Link(from, to); err == nil || !linkRefused(err) {
		return false, err
	}
	f, err := d.Open(from)
	if err != nil {
		return false, err
	}
	data, err := readAll(f, info.Size)
	_ = f.Close() // opened for reading: nothing is lost
	if err != nil {
		return false, err
	}
	err = createFile(d, to, info.Mode, info.UID, info.GID, data)
	if errors.Is(err, syscall.EPERM) {
		// Only root may give files away. Of a copy that is there for an undo,
		// content and mode matter most.
		if err = d.Remove(to); err == nil {
			err = createFile(d, to, info.Mode, -1, -1, data)
		}
	}
	return true, err
}

func linkRefused(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOTSUP, syscall.ENOSYS, syscall.EMLINK, errors.ErrUnsupported} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// discardFailed removes what was staged for sets that failed before the journal.
func (b *batch) discardFailed() {
	for i, st := range b.sets {
		if b.errs[i] != nil && !st.over {
			b.drop(i)
		}
	}
}

// drop discards a failed set.
func (b *batch) drop(i int) {
	st := b.sets[i]
	if err := st.removeTemps(); err != nil {
		b.errs[i] = errors.Join(b.errs[i], err)
	}
	st.end(true)
}

func (b *batch) writeJournal() error {
	r := commitRecord{FormatVersion: journalVersion, State: b.s.id}
	for i, st := range b.sets {
		if b.errs[i] != nil {
			continue
		}
		steps := slices.Clone(st.steps)
		for j := range steps {
			steps[j].Dir = b.s.journalPath(steps[j].Dir)
		}
		r.Sets = append(r.Sets, commitSteps{ID: st.set.ID.String(), Steps: steps})
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	b.name = b.s.journalName(commitExt)
	err = b.s.withJournal(func(d Dir) error { return b.s.writeState(d, b.name, data) })
	if err != nil {
		return fmt.Errorf("state directory %s: write the journal: %w", b.s.dir, err)
	}
	return nil
}

// abandon gives up before the first rename. The temporaries may be removed only
// if the record will not come back after a crash: with some of them gone, it
// would lead to a mixture.
func (b *batch) abandon(cause error) {
	err := b.removeJournal(true)
	for i, st := range b.sets {
		if b.errs[i] != nil {
			continue
		}
		b.errs[i] = errors.Join(cause, err)
		if err == nil {
			b.drop(i)
			continue
		}
		st.end(false)
	}
	if err != nil {
		b.s.unfinished()
	}
}

// removeJournal removes the commit's record; durably, if asked for. Otherwise the
// next record's sync does that, and doing the steps again does no harm.
func (b *batch) removeJournal(durably bool) error {
	return b.s.withJournal(func(d Dir) error {
		if err := d.Remove(b.name); err != nil && !isAbsent(err) {
			return err
		}
		if durably {
			return d.Sync()
		}
		return nil
	})
}

// unfinished has the next Stage or Recover complete what the journal says.
func (s *Store) unfinished() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recovered = false
	s.untidy = true
	s.pending.Store(nil)
}

// rename makes one set visible, or leaves the old one.
func (b *batch) rename(st *staged) error {
	for i := range st.steps {
		err := b.step(&st.steps[i])
		if err == nil {
			continue
		}
		if uerr := b.undo(st, i); uerr != nil {
			return b.goOn(st, errors.Join(err, fmt.Errorf("undo: %w", uerr)))
		}
		b.undone[b.index(st)] = true
		return err
	}
	return nil
}

func (b *batch) index(st *staged) int {
	return slices.Index(b.sets, st)
}

func (b *batch) step(s *step) error {
	return b.dirs.use(s.Dir, func(d *dirHandle) error {
		if s.Barrier {
			if err := d.Sync(); err != nil {
				return err
			}
		}
		return d.move(s.From, s.To)
	})
}

// goOn tries the renames once more, for neither new nor old would be whole. If
// even that fails, the journal keeps the set for a later recovery.
func (b *batch) goOn(st *staged, cause error) error {
	if _, err := replay(b.dirs, st.steps); err != nil {
		b.stuck = true
		return fmt.Errorf("%w; the next run will complete the change", cause)
	}
	b.s.log.Warn("a rename failed, could not be undone, and then succeeded",
		"certificate", st.set.ID.String(), "error", cause)
	return nil
}

// finish ends the commit once all renames are durable, as far as they are.
func (b *batch) finish() {
	failed := false
	for _, u := range b.undone {
		failed = failed || u
	}
	if !b.stuck {
		if err := b.removeJournal(failed); err != nil {
			b.s.log.Warn("a finished commit stays in the journal until the next run", "error", err)
			b.stuck = true
		}
	}
	for i, st := range b.sets {
		switch {
		case st.over:
		case b.undone[i] && !b.stuck:
			b.drop(i)
		case b.errs[i] != nil:
			st.end(false)
		default:
			b.tidy(st)
			st.end(false)
		}
	}
	if b.stuck {
		b.s.unfinished()
	}
	b.s.dirs.reset()
}

// tidy removes what a committed set needs no longer. What cannot be removed now
// is later; it is no failure of the commit.
func (b *batch) tidy(st *staged) {
	for _, s := range st.steps {
		if s.backup == "" {
			continue
		}
		t := temp{dir: s.Dir, name: s.backup}
		if err := b.s.removeTempIn(b.dirs, t); err != nil {
			b.s.keepForLater(t)
		}
	}
	for _, f := range st.tidy {
		if err := f(b.dirs); err != nil {
			b.s.mu.Lock()
			b.s.untidy = true
			b.s.mu.Unlock()
			b.s.log.Debug("something old stays", "certificate", st.set.ID.String(), "error", err)
		}
	}
}
