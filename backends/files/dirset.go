package files

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// A directory set is laid out as the kubelet lays out a mounted Secret:
//
//	dir/..20260102T150405Z-<run>-<n>/tls.crt, tls.key, ca.crt
//	dir/..data  -> ..20260102T150405Z-<run>-<n>
//	dir/tls.crt -> ..data/tls.crt, and so on
//
// A change stages a whole new version, links for new members, and then replaces
// ..data in one rename. The version before the present one stays until the next
// change, for readers that have opened it. Everything else in dir is somebody
// else's and stays.
//
// Plain files at the members' names are taken over without a moment in which two
// generations are to be seen: their contents become a version of their own, each
// is replaced by a link to its own content, and only then ..data moves on.

// memberChange is what a set changes in one directory.
type memberChange struct {
	write  []reconcile.File
	remove []spec.Output
}

func memberOf(m map[string]*memberChange, o spec.Output) *memberChange {
	if m[o.Dir] == nil {
		m[o.Dir] = &memberChange{}
	}
	return m[o.Dir]
}

// memberState is what is at a member's name.
type memberState struct {
	info   Info
	linked bool // it is the link of a member of this kind of set
}

// changeDir stages the change of one directory set.
func (st *staged) changeDir(dir string, c *memberChange) error {
	if len(c.write) == 0 {
		d, err := st.s.dirs.get(dir)
		if isAbsent(err) {
			return nil // nothing to remove
		}
		if err != nil {
			return parentError(dir, err)
		}
		d.put()
	}
	return st.in(dir, 0o755, func(d *dirHandle) error {
		version, err := st.s.version(dir)
		if err != nil {
			return err
		}
		present, err := versionFiles(d, version)
		if err != nil {
			return err
		}
		state := map[string]memberState{}
		for _, f := range c.write {
			if err := look(d, f.Output.Path, "write", state); err != nil {
				return err
			}
		}
		for _, o := range c.remove {
			if err := look(d, o.Path, "remove", state); err != nil {
				return err
			}
		}
		// What neither is written nor removed stays in the set.
		kept := slices.DeleteFunc(present, func(name string) bool { _, ok := state[name]; return ok })
		if len(c.write) == 0 && len(kept) == 0 {
			return st.removeDir(d, version, c, state)
		}
		return st.replaceDir(d, version, kept, c, state)
	})
}

// look finds out what is at a member's name.
func look(d *dirHandle, path, op string, state map[string]memberState) error {
	base := filepath.Base(path)
	if text, err := d.Readlink(base); err == nil && text == memberLink(base) {
		info, err := d.Lstat(base)
		if err != nil {
			return opError(op, path, err)
		}
		state[base] = memberState{info: info, linked: true}
		return nil
	}
	info, err := lookTarget(d, base, op, path)
	if err != nil {
		return err
	}
	state[base] = memberState{info: info}
	return nil
}

// versionFiles lists the files of a version.
func versionFiles(d *dirHandle, version string) ([]string, error) {
	if version == "" {
		return nil, nil
	}
	v, err := d.OpenDir(version)
	if isAbsent(err) {
		return nil, nil // a link to nothing: as if there were no set
	}
	if err != nil {
		return nil, opError("open", filepath.Join(d.path, version), err)
	}
	defer closeQuietly(v)
	return v.Names()
}

// replaceDir stages a new version of a directory set.
func (st *staged) replaceDir(d *dirHandle, version string, kept []string, c *memberChange, state map[string]memberState) error {
	var plain []string
	for _, name := range sortedKeys(state) {
		if state[name].info.Mode.IsRegular() && state[name].info.Ino != 0 {
			plain = append(plain, name)
		}
	}
	before := version
	if len(plain) > 0 {
		old, err := st.adopt(d, version, plain)
		if err != nil {
			return err
		}
		before = old
	}
	next := st.s.versionName(before)
	if err := st.mkdir(d, next, 0o755); err != nil {
		return opError("create directory", filepath.Join(d.path, next), err)
	}
	err := st.inside(d, next, func(v *dirHandle) error {
		for _, f := range c.write {
			uid, gid, err := st.s.owner.ids(f.Output)
			if err != nil {
				return err
			}
			name := filepath.Base(f.Output.Path)
			if err := st.createInside(v, name, f.Output.Mode, uid, gid, f.Data); err != nil {
				return opError("write", f.Output.Path, err)
			}
		}
		for _, name := range kept {
			if err := st.copyInside(v, filepath.Join(d.path, version), name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range c.write {
		name := filepath.Base(f.Output.Path)
		if err := st.linkMember(d, name, state[name]); err != nil {
			return err
		}
	}
	if err := st.pointTo(d, next, len(plain) > 0); err != nil {
		return err
	}
	for _, o := range c.remove {
		if name := filepath.Base(o.Path); state[name].info.Ino != 0 {
			st.moveAway(d, name, state[name].info)
		}
	}
	st.tidy = append(st.tidy, func(c *dirCache) error { return st.s.tidyVersions(c, d.path, next, before) })
	return nil
}

// adopt stages a version with the contents of plain files, and the steps that
// make links of them without a reader noticing.
func (st *staged) adopt(d *dirHandle, version string, plain []string) (string, error) {
	old := st.s.versionName(version)
	if err := st.mkdir(d, old, 0o755); err != nil {
		return "", opError("create directory", filepath.Join(d.path, old), err)
	}
	// Members that are links already keep what they lead to.
	linked, err := versionFiles(d, version)
	if err != nil {
		return "", err
	}
	err = st.inside(d, old, func(v *dirHandle) error {
		for _, name := range plain {
			if err := st.copyInside(v, d.path, name); err != nil {
				return err
			}
		}
		for _, name := range linked {
			if slices.Contains(plain, name) {
				continue
			}
			if err := st.copyInside(v, filepath.Join(d.path, version), name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return old, st.pointTo(d, old, false)
}

// copyInside copies a file, with its owner and mode, into a staged directory.
func (st *staged) copyInside(v *dirHandle, from, name string) error {
	path := filepath.Join(from, name)
	c, err := st.s.readPlain(path, path)
	if err != nil {
		return err
	}
	if !c.exists {
		return nil
	}
	if err := st.createInside(v, name, c.info.Mode, c.info.UID, c.info.GID, c.data); err != nil {
		return opError("copy", path, err)
	}
	return nil
}

// linkMember stages the link of a member, if it is not there.
func (st *staged) linkMember(d *dirHandle, name string, state memberState) error {
	if state.linked {
		return nil
	}
	return st.symlink(d, memberLink(name), name, false)
}

// pointTo stages the step that makes a version the present one. With barrier,
// all links are durable before, so that a power cut shows no mixture either.
func (st *staged) pointTo(d *dirHandle, version string, barrier bool) error {
	return st.symlink(d, version, dataLink, barrier)
}

func (st *staged) symlink(d *dirHandle, text, name string, barrier bool) error {
	tmp := st.s.tempName(name)
	st.temps = append(st.temps, temp{dir: d.path, name: tmp})
	if err := d.Symlink(text, tmp); err != nil {
		return opError("link", filepath.Join(d.path, name), err)
	}
	st.steps = append(st.steps, step{Dir: d.path, From: tmp, To: name, Barrier: barrier, link: text})
	return nil
}

// removeDir stages the end of a directory set: ..data first, by which all members
// vanish at once. The directory itself goes, too, if nothing else is in it.
func (st *staged) removeDir(d *dirHandle, version string, c *memberChange, state map[string]memberState) error {
	info, err := d.Lstat(dataLink)
	if err == nil {
		if info.Mode&fs.ModeSymlink == 0 {
			return fmt.Errorf("remove %s: it is %s", filepath.Join(d.path, dataLink), kind(info.Mode))
		}
		st.moveAway(d, dataLink, info)
	} else if !isAbsent(err) {
		return opError("remove", filepath.Join(d.path, dataLink), err)
	}
	for _, o := range c.remove {
		if name := filepath.Base(o.Path); state[name].info.Ino != 0 {
			st.moveAway(d, name, state[name].info)
		}
	}
	names, err := d.Names()
	if err != nil {
		return opError("read", d.path, err)
	}
	for _, name := range names {
		if _, _, ok := parseVersion(name); name != version && !(ok && name < version) {
			continue
		}
		info, err := d.Lstat(name)
		if err != nil {
			return opError("remove", filepath.Join(d.path, name), err)
		}
		st.moveAway(d, name, info)
	}
	path := d.path
	st.tidy = append(st.tidy, func(c *dirCache) error { return st.s.removeEmpty(c, path) })
	return nil
}

// tidyVersions removes the versions of a set but the present one and that before
// it. Later ones are another run's, being staged.
func (s *Store) tidyVersions(c *dirCache, dir, present, before string) error {
	return c.use(dir, func(d *dirHandle) error {
		names, err := d.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, _, ok := parseVersion(name); ok && name < present && name != before {
				s.removedFrom(dir)
				if err := removeTree(d, name); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// removeEmpty removes a directory if nothing is in it.
func (s *Store) removeEmpty(c *dirCache, dir string) error {
	c.forget(dir)
	s.removedFrom(filepath.Dir(dir))
	err := c.use(filepath.Dir(dir), func(p *dirHandle) error { return p.RemoveDir(filepath.Base(dir)) })
	if isNotEmpty(err) || isAbsent(err) {
		return nil
	}
	return err
}
