//go:build unix

package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is the real filesystem.
var Disk FS = disk{}

const (
	// O_NONBLOCK keeps open(2) of a fifo from waiting for a writer; a regular
	// file does not know it.
	openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
)

type disk struct{}

func (disk) Open(path string) (File, error) {
	return openAt(unix.AT_FDCWD, "", path, openFlags, 0)
}

func (disk) Readlink(path string) (string, error) {
	return readlinkAt(unix.AT_FDCWD, "", path)
}

func (disk) OpenDir(path string) (Dir, error) {
	fd, err := open(unix.AT_FDCWD, path, dirFlags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &diskDir{fd: fd, path: path}, nil
}

type diskDir struct {
	fd   int
	path string
}

func (d *diskDir) err(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: filepath.Join(d.path, name), Err: err}
}

func (d *diskDir) Open(name string) (File, error) { return openAt(d.fd, d.path, name, openFlags, 0) }

func (d *diskDir) Create(name string) (File, error) {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	return openAt(d.fd, d.path, name, flags, 0o600)
}

func (d *diskDir) Link(old, name string) error {
	return d.err("link", name, retry(func() error { return unix.Linkat(d.fd, old, d.fd, name, 0) }))
}

func (d *diskDir) Symlink(text, name string) error {
	return d.err("symlink", name, retry(func() error { return unix.Symlinkat(text, d.fd, name) }))
}

func (d *diskDir) Readlink(name string) (string, error) { return readlinkAt(d.fd, d.path, name) }

func (d *diskDir) Rename(old string, to Dir, name string) error {
	t, ok := to.(*diskDir)
	if !ok {
		return d.err("rename", old, unix.EXDEV)
	}
	return t.err("rename", name, retry(func() error { return unix.Renameat(d.fd, old, t.fd, name) }))
}

func (d *diskDir) Remove(name string) error {
	return d.err("remove", name, retry(func() error { return unix.Unlinkat(d.fd, name, 0) }))
}

func (d *diskDir) Mkdir(name string, mode fs.FileMode) error {
	return d.err("mkdir", name, retry(func() error { return unix.Mkdirat(d.fd, name, uint32(mode.Perm())) }))
}

func (d *diskDir) RemoveDir(name string) error {
	return d.err("remove", name, retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) }))
}

func (d *diskDir) OpenDir(name string) (Dir, error) {
	fd, err := open(d.fd, name, dirFlags|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, d.err("open", name, err)
	}
	return &diskDir{fd: fd, path: filepath.Join(d.path, name)}, nil
}

func (d *diskDir) Lstat(name string) (Info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Info{}, d.err("lstat", name, err)
	}
	return info(&st), nil
}

// Names reads through a descriptor of its own, for a shared one has one
// position for everybody.
func (d *diskDir) Names() ([]string, error) {
	fd, err := open(d.fd, ".", dirFlags, 0)
	if err != nil {
		return nil, d.err("open", "", err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close() // read only: nothing is lost
	return f.Readdirnames(-1)
}

func (d *diskDir) Stat() (Info, error) { return statFD(d.fd, d.path) }

func (d *diskDir) Chmod(mode fs.FileMode) error {
	return d.err("chmod", "", retry(func() error { return unix.Fchmod(d.fd, sysMode(mode)) }))
}

func (d *diskDir) Sync() error { return d.err("sync", "", retry(func() error { return fsync(d.fd) })) }

func (d *diskDir) SyncFS() error {
	return d.err("sync", "", retry(func() error { return syncFS(d.fd) }))
}

func (d *diskDir) Close() error { return d.err("close", "", closeFD(d.fd)) }

func (d *diskDir) Lock(name string, info []byte) (func() error, []byte, error) {
	for attempt := 0; ; attempt++ {
		fd, err := open(d.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, nil, d.err("open", name, err)
		}
		f := &diskFile{fd: fd, dir: d.path, name: name}
		err = retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder := make([]byte, 4096)
			n, _ := f.Read(holder)
			if n <= 0 && attempt < 50 {
				// Whoever has it is about to say who it is, or has just let go.
				if err := f.Close(); err != nil {
					return nil, nil, err
				}
				time.Sleep(2 * time.Millisecond)
				continue
			}
			return nil, holder[:max(n, 0)], errors.Join(d.err("lock", name, ErrLocked), f.Close())
		}
		if err != nil {
			return nil, nil, errors.Join(d.err("lock", name, err), f.Close())
		}
		// Somebody may have removed the file between open and flock: then this
		// lock keeps nobody out.
		mine, err := f.Stat()
		if err == nil {
			var named Info
			if named, err = d.Lstat(name); err == nil && !mine.same(named) || errors.Is(err, fs.ErrNotExist) {
				if err := f.Close(); err != nil {
					return nil, nil, err
				}
				continue
			}
		}
		if err == nil {
			err = f.replace(info)
		}
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		return func() error { return errors.Join(f.replace(nil), f.Close()) }, nil, nil
	}
}

type diskFile struct {
	fd        int
	dir, name string
}

func (f *diskFile) err(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: filepath.Join(f.dir, f.name), Err: err}
}

func (f *diskFile) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, f.err("read", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (f *diskFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(f.fd, p[done:])
		if err == unix.EINTR {
			continue
		}
		if err == nil && n <= 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return done, f.err("write", err)
		}
		done += n
	}
	return done, nil
}

// replace puts content into a file in place. Only the lock's holder line is
// written so: nothing depends on it.
func (f *diskFile) replace(content []byte) error {
	if err := retry(func() error { return unix.Ftruncate(f.fd, 0) }); err != nil {
		return f.err("truncate", err)
	}
	if _, err := unix.Seek(f.fd, 0, io.SeekStart); err != nil {
		return f.err("seek", err)
	}
	_, err := f.Write(content)
	return err
}

func (f *diskFile) Stat() (Info, error) { return statFD(f.fd, filepath.Join(f.dir, f.name)) }

func (f *diskFile) Chmod(mode fs.FileMode) error {
	return f.err("chmod", retry(func() error { return unix.Fchmod(f.fd, sysMode(mode)) }))
}

func (f *diskFile) Chown(uid, gid int) error {
	return f.err("chown", retry(func() error { return unix.Fchown(f.fd, uid, gid) }))
}

func (f *diskFile) Sync() error  { return f.err("sync", retry(func() error { return fsync(f.fd) })) }
func (f *diskFile) Close() error { return f.err("close", closeFD(f.fd)) }

func openAt(at int, dir, name string, flags int, mode uint32) (File, error) {
	fd, err := open(at, name, flags, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir, name), Err: err}
	}
	return &diskFile{fd: fd, dir: dir, name: name}, nil
}

func open(at int, name string, flags int, mode uint32) (fd int, err error) {
	for {
		fd, err = unix.Openat(at, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// closeFD does not close again after EINTR: on Linux the descriptor is gone, and
// its number may be somebody else's by now (close(2)).
func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

func readlinkAt(at int, dir, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(at, name, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", &fs.PathError{Op: "readlink", Path: filepath.Join(dir, name), Err: err}
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

func statFD(fd int, path string) (Info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return info(&st), nil
}

func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func info(st *unix.Stat_t) Info {
	mode := fs.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	default:
		mode |= fs.ModeIrregular
	}
	if st.Mode&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if st.Mode&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if st.Mode&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return Info{Mode: mode, UID: int(st.Uid), GID: int(st.Gid), Size: st.Size, Dev: uint64(st.Dev), Ino: st.Ino}
}

func sysMode(mode fs.FileMode) uint32 { return uint32(mode.Perm()) }
