package files

import (
	"path/filepath"
)

// undo takes back the first n steps of a set and the half-done one after them.
// See commit.go for why it goes about it in this order. After an error some
// targets may be new and some old, but all temporaries that the journal needs in
// order to go forward are there.
func (b *batch) undo(st *staged, n int) error {
	done := st.steps[:n]
	for i := len(done) - 1; i >= 0; i-- {
		if err := b.bringBack(&done[i]); err != nil {
			return err
		}
	}
	if err := b.syncSteps(done); err != nil {
		return err
	}
	for i := len(done) - 1; i >= 0; i-- {
		s := &done[i]
		if !s.away() && s.backup == "" && s.link == "" {
			continue // bringBack undid it
		}
		err := b.dirs.use(s.Dir, func(d *dirHandle) error {
			if s.away() {
				return d.move(s.To, s.From)
			}
			if s.backup == "" {
				return d.Remove(s.To)
			}
			return d.move(s.backup, s.To)
		})
		if err != nil {
			return err
		}
	}
	return b.syncSteps(done)
}

// bringBack makes the temporary of a step that was done again. Where a file had
// no target before, this undoes the step.
func (b *batch) bringBack(s *step) error {
	if s.away() {
		return nil // it has no temporary: its target has one name or the other
	}
	return b.dirs.use(s.Dir, func(d *dirHandle) error {
		switch {
		case s.link != "":
			return d.Symlink(s.link, s.From)
		case s.backup == "":
			return d.move(s.To, s.From)
		}
		err := d.Link(s.To, s.From)
		if err != nil && linkRefused(err) {
			// For a moment there is no target; the alternative is a mixture.
			return d.move(s.To, s.From)
		}
		return err
	})
}

func (b *batch) syncSteps(steps []step) error {
	dirs := map[string]bool{}
	for _, s := range steps {
		dirs[s.Dir] = true
	}
	for _, dir := range sortedKeys(dirs) {
		if err := b.dirs.use(dir, func(d *dirHandle) error { return d.Sync() }); err != nil {
			return err
		}
	}
	return nil
}

// replay does the steps of a set that are left, after a crash or a failed undo,
// and returns the directories that are to be synced. It may be repeated.
func replay(dirs *dirCache, steps []step) (touched map[string]bool, err error) {
	touched = map[string]bool{}
	left := make([]bool, len(steps))
	for i, s := range steps {
		if left[i], err = isLeft(dirs, s); err != nil {
			return nil, err
		}
	}
	for i, s := range steps {
		touched[s.Dir] = true
		if !left[i] {
			continue
		}
		err := dirs.use(s.Dir, func(d *dirHandle) error {
			if superseded(steps, left, i) {
				return d.Remove(s.From)
			}
			if s.Barrier {
				if err := d.Sync(); err != nil {
					return err
				}
			}
			return d.move(s.From, s.To)
		})
		if err != nil && !isAbsent(err) {
			return nil, opError("replace", filepath.Join(s.Dir, s.To), err)
		}
	}
	return touched, nil
}

// isLeft tells whether a step is yet to be done: whether what it renames is still
// there. A directory that is gone takes its steps with it.
func isLeft(dirs *dirCache, s step) (left bool, err error) {
	err = dirs.use(s.Dir, func(d *dirHandle) error {
		info, err := d.Lstat(s.From)
		if left = err == nil; !left || !s.away() {
			return err
		}
		left, err = s.moves(info, func() error {
			_, err := d.Lstat(s.To)
			return err
		})
		return err
	})
	if err != nil && !isAbsent(err) && !isNotDir(err) {
		return false, opError("open", filepath.Join(s.Dir, s.From), err)
	}
	return left, nil
}

// moves tells whether what is at the name of a target, as info describes it, is
// what a step moves aside. In a copy, where inodes tell nothing, it is if nothing
// was moved aside yet, as look finds out.
func (s *step) moves(info Info, look func() error) (bool, error) {
	if !s.copied {
		return info.Ino == s.Ino, nil
	}
	err := look()
	if isAbsent(err) {
		return true, nil
	}
	return false, err
}

// superseded tells whether a later step to the same target was done already:
// unsynced renames may have reached the disk in another order.
func superseded(steps []step, left []bool, i int) bool {
	for j := i + 1; j < len(steps); j++ {
		if steps[j].To == steps[i].To && steps[j].Dir == steps[i].Dir && !left[j] {
			return true
		}
	}
	return false
}
