package files

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
)

// Recover completes what a run before this one left unfinished: it does the
// renames that the journal still has, removes temporaries, and sets aside what
// cannot be understood, and what is for another state directory to complete. It needs the lock. Stage calls it if nobody did.
//
// After an error something could not be completed. That keeps the sets that it
// touches from being staged, and no other.
func (s *Store) Recover(ctx context.Context) ([]Notice, error) {
	s.mu.Lock()
	locked := s.locked
	s.mu.Unlock()
	if !locked {
		return nil, errNotLocked
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	err := s.recoverJournal(ctx)
	return s.Notices(), err
}

// recovery is one run through the journal.
type recovery struct {
	s       *Store
	dirs    *dirCache
	commits []journaled[commitRecord]
	intents []journaled[intentRecord]
	temps   []string        // unfinished files of the journal itself
	held    map[string]bool // directories of a commit that cannot be completed
	errs    []error
}

type journaled[T any] struct {
	name   string
	record *T
}

// recoverJournal does the work of Recover, with commitMu held.
func (s *Store) recoverJournal(ctx context.Context) error {
	r := &recovery{s: s, dirs: newDirCache(s.fs), held: map[string]bool{}}
	defer r.dirs.reset()
	if err := r.load(ctx); err != nil {
		return err
	}
	s.pending.Store(nil)
	for _, c := range r.commits {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.complete(c)
	}
	r.sweep()
	if err := s.setGarbageAside(); err != nil {
		r.errs = append(r.errs, err)
	}
	s.pending.Store(nil)
	s.dirs.reset()
	s.mu.Lock()
	s.recovered = len(r.held) == 0
	s.mu.Unlock()
	return errors.Join(r.errs...)
}

// load reads the journal. A commit's record that is not valid had no step done,
// for it is durable before the first.
func (r *recovery) load(ctx context.Context) error {
	dir := r.s.path(journalDir)
	names, err := r.s.journalFiles()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ok := tempRun(name); ok {
			r.temps = append(r.temps, name)
			continue
		}
		var problem error
		switch {
		case strings.HasSuffix(name, commitExt):
			var data []byte
			if data, problem, err = r.read(name); problem == nil && err == nil {
				var rec *commitRecord
				if rec, problem = r.s.decodeCommit(data, r.s.id); problem == nil {
					r.commits = append(r.commits, journaled[commitRecord]{name, rec})
				}
			}
		case strings.HasSuffix(name, intentExt):
			var data []byte
			if data, problem, err = r.read(name); problem == nil && err == nil {
				var rec *intentRecord
				if rec, problem = r.s.decodeIntent(data, r.s.id); problem == nil {
					r.intents = append(r.intents, journaled[intentRecord]{name, rec})
				}
			}
		default:
			problem = errors.New("it is not a file of the journal")
		}
		if err != nil {
			return err
		}
		if problem != nil {
			why := problem.Error()
			if _, ok := errors.AsType[*copiedError](problem); !ok {
				why = "it cannot be understood: " + why
			}
			if err := r.s.setAside(dir, name, why); err != nil {
				r.errs = append(r.errs, err)
			}
		}
	}
	return nil
}

// read reads a file of the journal. What is no file at all is garbage, and a
// failure to read one is an error.
func (r *recovery) read(name string) (data []byte, problem, err error) {
	dir := r.s.path(journalDir)
	var info Info
	err = r.dirs.use(dir, func(d *dirHandle) (err error) {
		info, err = d.Lstat(name)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode.IsRegular() {
		return nil, fmt.Errorf("it is %s", kind(info.Mode)), nil
	}
	f, err := r.s.fs.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing is lost
	data, err = readAll(f, info.Size)
	if errors.Is(err, errTooLarge) {
		return nil, err, nil
	}
	return data, nil, err
}

// complete does what is left of one commit, set by set.
func (r *recovery) complete(c journaled[commitRecord]) {
	touched := map[string]bool{}
	var errs []error
	for _, set := range c.record.Sets {
		dirs, err := replay(r.dirs, set.Steps)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: complete the change that was interrupted: %w", set.ID, err))
			continue
		}
		maps.Copy(touched, dirs)
	}
	for _, dir := range sortedKeys(touched) {
		err := r.dirs.use(dir, func(d *dirHandle) error { return d.Sync() })
		if err != nil && !isAbsent(err) {
			errs = append(errs, opError("sync", dir, err))
		}
	}
	if len(errs) == 0 {
		err := r.s.withJournal(func(d Dir) error {
			if err := d.Remove(c.name); err != nil {
				return err
			}
			return d.Sync()
		})
		if err == nil {
			return
		}
		errs = append(errs, stateError(r.s.dir, err))
	}
	r.errs = append(r.errs, errs...)
	for _, set := range c.record.Sets {
		for _, st := range set.Steps {
			r.held[st.Dir] = true
		}
	}
}

// sweep removes the temporaries of runs that ended. Those of the present run are
// its own business, and those of a commit that cannot be completed are needed.
func (r *recovery) sweep() {
	for _, kind := range kinds {
		r.sweepState(r.s.path(recordsDir, string(kind)))
		r.sweepState(r.s.path(pendingDir, string(kind)))
	}
	for _, name := range r.temps {
		r.note(r.dirs.use(r.s.path(journalDir), func(d *dirHandle) error { return d.Remove(name) }))
	}
	for _, in := range r.intents {
		if in.record.Run == r.s.run {
			continue
		}
		clean := true
		swept := map[string]bool{}
		dirs, err := r.expand(in.record.Dirs)
		if err != nil {
			r.note(err)
			continue
		}
		for _, dir := range dirs {
			if r.held[dir] {
				clean = false
			} else if err := r.sweepDir(dir, in.record.Run, swept); err != nil {
				r.note(err)
				clean = false
			}
		}
		if clean && len(swept) > 0 {
			err := r.s.syncDirs(r.dirs, swept)
			r.note(err)
			clean = err == nil
		}
		switch {
		case !clean:
		case in.record.outside != nil:
			r.note(r.s.setAside(r.s.path(journalDir), in.name, in.record.outside.Error()))
		default:
			r.note(r.dirs.use(r.s.path(journalDir), func(d *dirHandle) error { return d.Remove(in.name) }))
		}
	}
}

// expand replaces the archive by the directories in it, one for each certificate.
func (r *recovery) expand(dirs []string) ([]string, error) {
	var all []string
	for _, dir := range dirs {
		if dir != r.s.path(archiveDir) {
			all = append(all, dir)
			continue
		}
		for _, kind := range kinds {
			path := filepath.Join(dir, string(kind))
			names, err := r.s.list(path)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				all = append(all, filepath.Join(path, name))
			}
		}
	}
	return all, nil
}

func (r *recovery) note(err error) {
	if err != nil && !isAbsent(err) {
		r.errs = append(r.errs, fmt.Errorf("remove temporary files: %w", err))
	}
}

// sweepState removes temporaries of any earlier run from the state directory:
// nobody else has any there.
func (r *recovery) sweepState(dir string) {
	if r.held[dir] {
		return
	}
	r.note(r.dirs.use(dir, func(d *dirHandle) error {
		names, err := d.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			if run, ok := tempRun(name); ok && run != r.s.run {
				if err := d.Remove(name); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// sweepDir removes what a run staged in a directory, and version directories of
// a set that are neither the present one nor that before it. It adds dir to swept
// if something was there.
func (r *recovery) sweepDir(dir, run string, swept map[string]bool) error {
	err := r.dirs.use(dir, func(d *dirHandle) error {
		names, err := d.Names()
		if err != nil {
			return err
		}
		present, err := d.Readlink(dataLink)
		if err != nil && !isAbsent(err) && !isNotLink(err) {
			return err
		}
		before := ""
		for _, name := range names {
			if _, _, ok := parseVersion(name); ok && name < present && name > before {
				before = name
			}
		}
		for _, name := range names {
			stray := false
			if of, ok := tempRun(name); ok {
				stray = of == run
			} else if _, of, ok := parseVersion(name); ok {
				stray = name != present && name != before && (of == run || name < before)
			}
			if !stray {
				continue
			}
			swept[dir] = true
			info, err := d.Lstat(name)
			if err == nil && info.Mode.IsDir() {
				err = removeTree(d, name)
			} else if err == nil {
				err = d.Remove(name)
			}
			if err != nil && !isAbsent(err) {
				return err
			}
		}
		return nil
	})
	if isAbsent(err) || isNotDir(err) {
		return nil
	}
	return err
}
