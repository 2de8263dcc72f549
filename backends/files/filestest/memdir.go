package filestest

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"github.com/certsync/certsync/backends/files"
)

type memDir struct {
	m    *Mem
	n    *node
	path string
}

// do runs f on the entry of a name, which is nil if there is none.
func (d *memDir) do(op, name string, f func(n *node) error) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if len(name) > 255 {
		return fail(op, path.Join(d.path, name), syscall.ENAMETOOLONG)
	}
	if err := f(d.n.entries[name]); err != nil {
		return fail(op, path.Join(d.path, name), err)
	}
	return nil
}

// add is do for a name that must be free.
func (d *memDir) add(op, name string, f func() error) error {
	return d.do(op, name, func(n *node) error {
		if n != nil {
			return syscall.EEXIST
		}
		return f()
	})
}

// have is do for a name that must be there.
func (d *memDir) have(op, name string, f func(n *node) error) error {
	return d.do(op, name, func(n *node) error {
		if n == nil {
			return syscall.ENOENT
		}
		return f(n)
	})
}

func (d *memDir) Open(name string) (f files.File, err error) {
	err = d.have("open", name, func(n *node) error {
		if n.mode&fs.ModeSymlink != 0 {
			return syscall.ELOOP
		}
		f = &memFile{m: d.m, n: n, path: path.Join(d.path, name)}
		return nil
	})
	return f, err
}

func (d *memDir) Create(name string) (f files.File, err error) {
	err = d.add("open", name, func() error {
		n := d.m.node(0o600)
		d.m.change(change{d.n, name, n})
		f = &memFile{m: d.m, n: n, path: path.Join(d.path, name), write: true}
		return nil
	})
	return f, err
}

func (d *memDir) Link(old, name string) error {
	if d.m.NoLink {
		return fail("link", path.Join(d.path, name), syscall.EPERM)
	}
	return d.add("link", name, func() error {
		n := d.n.entries[old]
		switch {
		case n == nil:
			return syscall.ENOENT
		case n.mode.IsDir():
			return syscall.EPERM
		}
		d.m.change(change{d.n, name, n})
		return nil
	})
}

func (d *memDir) Symlink(text, name string) error {
	return d.add("symlink", name, func() error {
		n := d.m.node(fs.ModeSymlink | 0o777)
		n.text = text
		d.m.change(change{d.n, name, n})
		return nil
	})
}

func (d *memDir) Readlink(name string) (text string, err error) {
	err = d.have("readlink", name, func(n *node) error {
		if n.mode&fs.ModeSymlink == 0 {
			return syscall.EINVAL
		}
		text = n.text
		return nil
	})
	return text, err
}

func (d *memDir) Rename(old string, to files.Dir, name string) error {
	t, ok := to.(*memDir)
	if !ok {
		return fail("rename", path.Join(d.path, old), syscall.EXDEV)
	}
	return d.have("rename", old, func(n *node) error {
		there := t.n.entries[name]
		switch {
		case there == n:
			return nil // rename(2): two names of one file both stay
		case there != nil && there.mode.IsDir() && !n.mode.IsDir():
			return syscall.EISDIR
		case there != nil && !there.mode.IsDir() && n.mode.IsDir():
			return syscall.ENOTDIR
		case there != nil && len(there.entries) > 0:
			return syscall.ENOTEMPTY
		}
		d.m.change(change{d.n, old, nil}, change{t.n, name, n})
		return nil
	})
}

func (d *memDir) Remove(name string) error {
	return d.have("remove", name, func(n *node) error {
		if n.mode.IsDir() {
			return syscall.EISDIR
		}
		d.m.change(change{d.n, name, nil})
		return nil
	})
}

func (d *memDir) Mkdir(name string, mode fs.FileMode) error {
	return d.add("mkdir", name, func() error {
		d.m.change(change{d.n, name, d.m.node(fs.ModeDir | mode.Perm())})
		return nil
	})
}

func (d *memDir) RemoveDir(name string) error {
	return d.have("remove", name, func(n *node) error {
		switch {
		case !n.mode.IsDir():
			return syscall.ENOTDIR
		case len(n.entries) > 0:
			return syscall.ENOTEMPTY
		}
		d.m.change(change{d.n, name, nil})
		return nil
	})
}

func (d *memDir) OpenDir(name string) (sub files.Dir, err error) {
	err = d.have("open", name, func(n *node) error {
		if !n.mode.IsDir() {
			return syscall.ENOTDIR
		}
		sub = &memDir{d.m, n, path.Join(d.path, name)}
		return nil
	})
	return sub, err
}

func (d *memDir) Lstat(name string) (info files.Info, err error) {
	err = d.have("lstat", name, func(n *node) error {
		info = n.info()
		return nil
	})
	return info, err
}

func (d *memDir) Names() ([]string, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	var names []string
	for name := range d.n.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDir) Stat() (files.Info, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.n.info(), nil
}

func (d *memDir) Chmod(mode fs.FileMode) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.n.mode = fs.ModeDir | mode.Perm()
	return nil
}

func (d *memDir) Lock(name string, info []byte) (unlock func() error, holder []byte, err error) {
	err = d.do("lock", name, func(n *node) error {
		switch {
		case n == nil:
			n = d.m.node(0o600)
			d.m.change(change{d.n, name, n})
		case n.mode.IsDir():
			return syscall.EISDIR
		case d.m.locks[n]:
			holder = slices.Clone(n.data)
			return files.ErrLocked
		}
		d.m.locks[n] = true
		n.data = slices.Clone(info)
		unlock = func() error {
			d.m.mu.Lock()
			defer d.m.mu.Unlock()
			delete(d.m.locks, n)
			n.data = nil
			return nil
		}
		return nil
	})
	return unlock, holder, err
}

func (d *memDir) Sync() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.commitDir(d.n)
	return nil
}

func (d *memDir) SyncFS() error {
	if d.m.NoSyncFS {
		return fail("sync", d.path, errors.ErrUnsupported)
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	for _, o := range d.m.ops {
		o.save()
	}
	d.m.ops = nil
	d.m.each(func(n *node) { n.save() })
	return nil
}

func (d *memDir) Close() error { return nil }

// each visits every node that has a name, once.
func (m *Mem) each(f func(n *node)) {
	seen := map[*node]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		f(n)
		for _, sub := range n.entries {
			visit(sub)
		}
	}
	visit(m.root)
}

type memFile struct {
	m     *Mem
	n     *node
	path  string
	pos   int
	write bool
}

func (f *memFile) Read(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.n.mode.IsDir() {
		return 0, fail("read", f.path, syscall.EISDIR)
	}
	n := copy(p, f.n.data[min(f.pos, len(f.n.data)):])
	f.pos += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if !f.write {
		return 0, fail("write", f.path, syscall.EBADF)
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memFile) Stat() (files.Info, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.n.info(), nil
}

func (f *memFile) Chmod(mode fs.FileMode) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.mode = f.n.mode&^fs.ModePerm | mode.Perm()
	return nil
}

func (f *memFile) Chown(uid, gid int) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if uid >= 0 {
		f.n.uid = uid
	}
	if gid >= 0 {
		f.n.gid = gid
	}
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.save()
	return nil
}

func (f *memFile) Close() error { return nil }
