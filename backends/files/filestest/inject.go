package filestest

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/certsync/certsync/backends/files"
)

// ErrCrashed is what every operation returns after the crash.
var ErrCrashed = errors.New("the machine has crashed")

// Faulty is a filesystem of which one operation fails. What counts are the
// operations that change something, or promise to: creating, writing, linking,
// renaming, removing, changing mode or owner, syncing, closing what was written,
// and taking the lock; with InjectAny, those that read as well.
type Faulty struct {
	fs    files.FS
	at    int
	err   error
	any   bool // reads count, too
	crash bool
	trace func(n int, op, name string)

	mu    sync.Mutex
	count int
	fired bool
}

var _ files.FS = (*Faulty)(nil)

// Inject returns a filesystem whose n-th changing operation fails with err and
// has no effect, but for a write, which does half of its work first. n counts
// from 1; 0 is never.
func Inject(fs files.FS, n int, err error) *Faulty { return &Faulty{fs: fs, at: n, err: err} }

// InjectAny is as Inject, but counts operations that only read as well.
func InjectAny(fs files.FS, n int, err error) *Faulty {
	return &Faulty{fs: fs, at: n, err: err, any: true}
}

// CrashAt returns a filesystem that stops at the n-th changing operation: it and
// all that follow fail with ErrCrashed and have no effect.
func CrashAt(fs files.FS, n int) *Faulty {
	return &Faulty{fs: fs, at: n, err: ErrCrashed, crash: true}
}

// Trace has every operation that counts told to f.
func (f *Faulty) Trace(trace func(n int, op, name string)) { f.trace = trace }

// Fired tells whether the operation was reached.
func (f *Faulty) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Count returns how many operations counted so far.
func (f *Faulty) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// halted tells a crash that is over from the moment of the crash.
func (f *Faulty) halted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crash && f.count > f.at
}

// op counts an operation and returns its fault.
func (f *Faulty) op(name, path string, changes bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fired && f.crash {
		f.count++
		return fail(name, path, f.err)
	}
	if !changes && !f.any {
		return nil
	}
	f.count++
	if f.trace != nil {
		f.trace(f.count, name, path)
	}
	if f.count != f.at {
		return nil
	}
	f.fired = true
	return fail(name, path, f.err)
}

// Open implements files.FS.
func (f *Faulty) Open(name string) (files.File, error) {
	if err := f.op("open", name, false); err != nil {
		return nil, err
	}
	return f.file(name, false)(f.fs.Open(name))
}

// Readlink implements files.FS.
func (f *Faulty) Readlink(name string) (string, error) {
	if err := f.op("readlink", name, false); err != nil {
		return "", err
	}
	return f.fs.Readlink(name)
}

// OpenDir implements files.FS.
func (f *Faulty) OpenDir(name string) (files.Dir, error) {
	if err := f.op("open", name, false); err != nil {
		return nil, err
	}
	return f.dir(name)(f.fs.OpenDir(name))
}

func (f *Faulty) file(name string, write bool) func(files.File, error) (files.File, error) {
	return func(g files.File, err error) (files.File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{f, g, name, write}, nil
	}
}

func (f *Faulty) dir(name string) func(files.Dir, error) (files.Dir, error) {
	return func(d files.Dir, err error) (files.Dir, error) {
		if err != nil {
			return nil, err
		}
		return &faultyDir{f, d, name}, nil
	}
}

type faultyDir struct {
	f    *Faulty
	d    files.Dir
	path string
}

func (d *faultyDir) op(name, entry string, changes bool) error {
	path := d.path
	if entry != "" {
		path += "/" + entry
	}
	return d.f.op(name, path, changes)
}

func (d *faultyDir) Open(name string) (files.File, error) {
	if err := d.op("open", name, false); err != nil {
		return nil, err
	}
	return d.f.file(d.path+"/"+name, false)(d.d.Open(name))
}

func (d *faultyDir) Create(name string) (files.File, error) {
	if err := d.op("create", name, true); err != nil {
		return nil, err
	}
	return d.f.file(d.path+"/"+name, true)(d.d.Create(name))
}

func (d *faultyDir) Link(old, name string) error {
	if err := d.op("link", name, true); err != nil {
		return err
	}
	return d.d.Link(old, name)
}

func (d *faultyDir) Symlink(text, name string) error {
	if err := d.op("symlink", name, true); err != nil {
		return err
	}
	return d.d.Symlink(text, name)
}

func (d *faultyDir) Readlink(name string) (string, error) {
	if err := d.op("readlink", name, false); err != nil {
		return "", err
	}
	return d.d.Readlink(name)
}

func (d *faultyDir) Rename(old string, to files.Dir, name string) error {
	if err := d.op("rename", name, true); err != nil {
		return err
	}
	if t, ok := to.(*faultyDir); ok {
		to = t.d
	}
	return d.d.Rename(old, to, name)
}

func (d *faultyDir) Remove(name string) error {
	if err := d.op("remove", name, true); err != nil {
		return err
	}
	return d.d.Remove(name)
}

func (d *faultyDir) Mkdir(name string, mode fs.FileMode) error {
	if err := d.op("mkdir", name, true); err != nil {
		return err
	}
	return d.d.Mkdir(name, mode)
}

func (d *faultyDir) RemoveDir(name string) error {
	if err := d.op("rmdir", name, true); err != nil {
		return err
	}
	return d.d.RemoveDir(name)
}

func (d *faultyDir) OpenDir(name string) (files.Dir, error) {
	if err := d.op("open", name, false); err != nil {
		return nil, err
	}
	return d.f.dir(d.path + "/" + name)(d.d.OpenDir(name))
}

func (d *faultyDir) Lstat(name string) (files.Info, error) {
	if err := d.op("lstat", name, false); err != nil {
		return files.Info{}, err
	}
	return d.d.Lstat(name)
}

func (d *faultyDir) Names() ([]string, error) {
	if err := d.op("readdir", "", false); err != nil {
		return nil, err
	}
	return d.d.Names()
}

func (d *faultyDir) Stat() (files.Info, error) {
	if err := d.op("stat", "", false); err != nil {
		return files.Info{}, err
	}
	return d.d.Stat()
}

func (d *faultyDir) Chmod(mode fs.FileMode) error {
	if err := d.op("chmod", "", true); err != nil {
		return err
	}
	return d.d.Chmod(mode)
}

func (d *faultyDir) Lock(name string, info []byte) (func() error, []byte, error) {
	if err := d.op("lock", name, true); err != nil {
		return nil, nil, err
	}
	return d.d.Lock(name, info)
}

func (d *faultyDir) Sync() error {
	if err := d.op("sync", "", true); err != nil {
		return err
	}
	return d.d.Sync()
}

func (d *faultyDir) SyncFS() error {
	if err := d.op("syncfs", "", true); err != nil {
		return err
	}
	return d.d.SyncFS()
}

func (d *faultyDir) Close() error { return d.d.Close() }

type faultyFile struct {
	f     *Faulty
	g     files.File
	path  string
	write bool
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.f.op("read", f.path, false); err != nil {
		return 0, err
	}
	return f.g.Read(p)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.f.op("write", f.path, true); err != nil {
		if errors.Is(err, ErrCrashed) && f.f.halted() {
			return 0, err
		}
		n, werr := f.g.Write(p[:len(p)/2])
		return n, errors.Join(err, werr)
	}
	return f.g.Write(p)
}

func (f *faultyFile) Stat() (files.Info, error) {
	if err := f.f.op("stat", f.path, false); err != nil {
		return files.Info{}, err
	}
	return f.g.Stat()
}

func (f *faultyFile) Chmod(mode fs.FileMode) error {
	if err := f.f.op("chmod", f.path, true); err != nil {
		return err
	}
	return f.g.Chmod(mode)
}

func (f *faultyFile) Chown(uid, gid int) error {
	if err := f.f.op("chown", f.path, true); err != nil {
		return err
	}
	return f.g.Chown(uid, gid)
}

func (f *faultyFile) Sync() error {
	if err := f.f.op("sync", f.path, true); err != nil {
		return err
	}
	return f.g.Sync()
}

// Close closes, whether or not it says so.
func (f *faultyFile) Close() error {
	err := f.f.op("close", f.path, f.write)
	return errors.Join(err, f.g.Close())
}
