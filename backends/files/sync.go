package files

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

const (
	// syncFSFrom is from how many files and directories on one filesystem a sync
	// of the whole is tried instead of one for each.
	syncFSFrom = 16
	// syncParallel is how many single syncs are under way at once: a journaling
	// filesystem then serves many of them with one write of its journal.
	syncParallel = 16
)

// syncStaged makes durable what the sets staged: contents, and the entries that
// name them. A set whose files cannot be synced fails alone.
func (b *batch) syncStaged() {
	for i, err := range b.syncSets(true) {
		if b.errs[i] == nil {
			b.errs[i] = err
		}
	}
}

// syncRenamed makes the renames durable; an undo has done so itself. If that
// fails, nobody knows what a crash would leave, and the journal's record stays.
func (b *batch) syncRenamed() {
	for i, err := range b.syncSets(false) {
		if err == nil {
			continue
		}
		b.stuck = true
		if b.errs[i] == nil {
			b.errs[i] = fmt.Errorf("%w; the change is there, but may not survive a power cut before the next run", err)
		}
	}
}

// syncSets syncs for each set that has not failed its directories, and its files
// if asked for.
func (b *batch) syncSets(withFiles bool) []error {
	errs := make([]error, len(b.sets))
	type volume struct {
		dir   string // one directory on it
		count int
		sets  map[int]bool
		whole bool // synced as a whole
	}
	volumes := map[uint64]*volume{}
	dev := map[string]uint64{}
	users := map[string][]int{} // directories -> sets
	for i, st := range b.sets {
		if b.errs[i] != nil {
			continue
		}
		dirs := map[string]bool{}
		for _, s := range st.steps {
			dirs[s.Dir] = true
		}
		if withFiles {
			maps.Copy(dirs, st.syncs)
		}
		for dir := range dirs {
			id, ok := dev[dir]
			if !ok {
				h, err := b.dirs.get(dir)
				if err != nil {
					errs[i] = opError("sync", dir, err)
					continue
				}
				id = h.info.Dev
				h.put()
				dev[dir] = id
			}
			v := volumes[id]
			if v == nil {
				v = &volume{dir: dir, sets: map[int]bool{}}
				volumes[id] = v
			}
			if users[dir] == nil {
				v.count++
			}
			users[dir] = append(users[dir], i)
			v.sets[i] = true
		}
		if withFiles {
			for _, f := range st.files {
				if v := volumes[dev[filepath.Dir(f)]]; v != nil {
					v.count++
				}
			}
		}
	}

	fail := func(i int, err error) {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	for _, v := range volumes {
		if v.count < syncFSFrom {
			continue
		}
		err := b.dirs.use(v.dir, func(d *dirHandle) error { return d.SyncFS() })
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		v.whole = true
		if err != nil {
			for i := range v.sets {
				fail(i, fmt.Errorf("sync the filesystem of %s: %w", v.dir, cause(err)))
			}
		}
	}
	single := func(dir string) bool { return !volumes[dev[dir]].whole }

	var tasks []func() error
	var owners [][]int
	for _, dir := range slices.Sorted(maps.Keys(users)) {
		if single(dir) {
			tasks = append(tasks, func() error {
				err := b.dirs.use(dir, func(d *dirHandle) error { return d.Sync() })
				if err != nil {
					return opError("sync", dir, err)
				}
				return nil
			})
			owners = append(owners, users[dir])
		}
	}
	if withFiles {
		for i, st := range b.sets {
			if b.errs[i] != nil || errs[i] != nil {
				continue
			}
			for _, f := range st.files {
				if single(filepath.Dir(f)) {
					tasks = append(tasks, func() error { return b.s.syncFile(f) })
					owners = append(owners, []int{i})
				}
			}
		}
	}
	results := make([]error, len(tasks))
	var g errgroup.Group
	g.SetLimit(syncParallel)
	for t := range tasks {
		g.Go(func() error {
			results[t] = tasks[t]()
			return nil
		})
	}
	_ = g.Wait() // the errors are in results
	for t, err := range results {
		if err == nil {
			continue
		}
		for _, i := range owners[t] {
			fail(i, err)
		}
	}
	return errs
}

// syncDirs makes the entries of directories durable. For one that is gone, that
// it is gone is made durable.
func (s *Store) syncDirs(c *dirCache, dirs map[string]bool) error {
	done := map[uint64]bool{} // filesystems that were synced as a whole
	for _, dir := range sortedKeys(dirs) {
		err := c.use(dir, func(d *dirHandle) error {
			if done[d.info.Dev] {
				return nil
			}
			if len(dirs) >= syncFSFrom {
				if err := d.SyncFS(); !errors.Is(err, errors.ErrUnsupported) {
					done[d.info.Dev] = err == nil
					return err
				}
			}
			return d.Sync()
		})
		if isAbsent(err) && dir != filepath.Dir(dir) {
			err = s.syncDirs(c, map[string]bool{filepath.Dir(dir): true})
		}
		if err != nil {
			return opError("sync", dir, err)
		}
	}
	return nil
}

// syncFile syncs a staged file through a descriptor of its own: thousands cannot
// be kept open until they are committed. A failed write that nobody was told of
// yet is told here (fsync(2)).
func (s *Store) syncFile(path string) error {
	f, err := s.fs.Open(path)
	if err != nil {
		return opError("sync", path, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return opError("sync", path, err)
	}
	return nil
}
