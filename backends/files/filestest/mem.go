package filestest

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/certsync/certsync/backends/files"
)

// Mem is a filesystem in memory. Everything belongs to root and everybody may do
// everything: permissions are kept, not enforced.
type Mem struct {
	// NoLink and NoSyncFS make it one that has no hard links, or cannot sync as
	// a whole. They are set before use.
	NoLink, NoSyncFS bool

	mu    sync.Mutex
	root  *node
	next  uint64
	ops   []*op          // entry changes that are not durable yet, oldest first
	locks map[*node]bool // locked files
}

// node is an inode.
type node struct {
	ino      uint64
	mode     fs.FileMode
	uid, gid int
	data     []byte
	text     string           // of a symbolic link
	entries  map[string]*node // of a directory

	// What the disk has.
	saved struct {
		mode     fs.FileMode
		uid, gid int
		data     []byte
		entries  map[string]*node
	}
}

// op is a change of entries, all of it or nothing. A nil node removes.
type op struct {
	changes []change
}

type change struct {
	dir  *node
	name string
	to   *node
}

var _ files.FS = (*Mem)(nil)

// NewMem returns an empty filesystem: a root directory and /tmp in it, durable.
func NewMem() *Mem {
	m := &Mem{locks: map[*node]bool{}}
	m.root = m.node(fs.ModeDir | 0o755)
	m.root.entries["tmp"] = m.node(fs.ModeDir | 0o777)
	m.root.saved.entries["tmp"] = m.root.entries["tmp"]
	return m
}

func (m *Mem) node(mode fs.FileMode) *node {
	m.next++
	n := &node{ino: m.next, mode: mode}
	n.saved.mode = mode
	if mode.IsDir() {
		n.entries, n.saved.entries = map[string]*node{}, map[string]*node{}
	}
	return n
}

// MkdirAll makes directories for a test, durably.
func (m *Mem) MkdirAll(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := m.root
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if dir.entries[part] == nil {
			dir.entries[part] = m.node(fs.ModeDir | 0o755)
		}
		dir.saved.entries[part] = dir.entries[part]
		dir = dir.entries[part]
	}
}

// WriteFile makes a file for a test, durably.
func (m *Mem) WriteFile(name string, data []byte, mode fs.FileMode) {
	m.MkdirAll(path.Dir(name))
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.walk("write", path.Dir(name))
	if err != nil {
		panic(err)
	}
	n := m.node(mode)
	n.data, n.saved.data = slices.Clone(data), slices.Clone(data)
	dir.entries[path.Base(name)] = n
	dir.saved.entries[path.Base(name)] = n
}

// Files returns what is to be seen: all paths but those of directories, with the
// content of files, and "-> text" for symbolic links. Directories that are empty
// are there, too, with a slash at the end.
func (m *Mem) Files() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]string{}
	var visit func(name string, n *node)
	visit = func(name string, n *node) {
		switch {
		case n.mode.IsDir():
			for part, sub := range n.entries {
				visit(name+"/"+part, sub)
			}
			if len(n.entries) == 0 {
				all[name+"/"] = ""
			}
		case n.mode&fs.ModeSymlink != 0:
			all[name] = "-> " + n.text
		default:
			all[name] = string(n.data)
		}
	}
	visit("", m.root)
	return all
}

// Mode returns the mode of what a path names, following no link at its end; 0 if
// there is nothing.
func (m *Mem) Mode(name string) fs.FileMode {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.walk("stat", path.Dir(name))
	if err != nil || dir.entries[path.Base(name)] == nil {
		return 0
	}
	return dir.entries[path.Base(name)].mode
}

// ReadFile returns what a reader of a path gets, following links; false if there
// is no file.
func (m *Mem) ReadFile(name string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.resolve(m.root, nil, name, 0)
	if err != nil || n.mode.IsDir() {
		return "", false
	}
	return string(n.data), true
}

// change applies a change of entries, not yet durable.
func (m *Mem) change(c ...change) {
	for _, c := range c {
		apply(c.dir.entries, c)
	}
	m.ops = append(m.ops, &op{c})
}

func apply(entries map[string]*node, c change) {
	if c.to == nil {
		delete(entries, c.name)
	} else {
		entries[c.name] = c.to
	}
}

// commitDir makes the changes of a directory durable.
func (m *Mem) commitDir(dir *node) {
	m.ops = slices.DeleteFunc(m.ops, func(o *op) bool {
		if !slices.ContainsFunc(o.changes, func(c change) bool { return c.dir == dir }) {
			return false
		}
		o.save()
		return true
	})
	dir.saveMeta()
}

func (o *op) save() {
	for _, c := range o.changes {
		apply(c.dir.saved.entries, c)
	}
}

func (n *node) saveMeta() {
	n.saved.mode, n.saved.uid, n.saved.gid = n.mode, n.uid, n.gid
}

func (n *node) save() {
	n.saveMeta()
	n.saved.data = slices.Clone(n.data)
}

func (n *node) info() files.Info {
	return files.Info{Mode: n.mode, UID: n.uid, GID: n.gid, Size: int64(len(n.data)), Dev: 1, Ino: n.ino}
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// walk finds a directory, following links.
func (m *Mem) walk(op, name string) (*node, error) {
	n, err := m.resolve(m.root, nil, name, 0)
	if err == nil && !n.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	return n, nil
}

func (m *Mem) resolve(at *node, stack []*node, name string, depth int) (*node, error) {
	if depth > 20 {
		return nil, syscall.ELOOP
	}
	if strings.HasPrefix(name, "/") {
		at, stack = m.root, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		if !at.mode.IsDir() {
			return nil, syscall.ENOTDIR
		}
		if part == ".." {
			if len(stack) > 0 {
				at, stack = stack[len(stack)-1], stack[:len(stack)-1]
			}
			continue
		}
		n := at.entries[part]
		if n == nil {
			return nil, syscall.ENOENT
		}
		if n.mode&fs.ModeSymlink != 0 {
			t, err := m.resolve(at, stack, n.text, depth+1)
			if err != nil {
				return nil, err
			}
			n = t
		}
		stack = append(slices.Clone(stack), at)
		at = n
	}
	return at, nil
}

// Open implements files.FS.
func (m *Mem) Open(name string) (files.File, error) {
	d, err := m.OpenDir(path.Dir(name))
	if err != nil {
		return nil, fail("open", name, errors.Unwrap(err))
	}
	return d.Open(path.Base(name))
}

// Readlink implements files.FS.
func (m *Mem) Readlink(name string) (string, error) {
	d, err := m.OpenDir(path.Dir(name))
	if err != nil {
		return "", fail("readlink", name, errors.Unwrap(err))
	}
	return d.Readlink(path.Base(name))
}

// OpenDir implements files.FS.
func (m *Mem) OpenDir(name string) (files.Dir, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.walk("open", name)
	if err != nil {
		return nil, err
	}
	return &memDir{m, n, name}, nil
}
