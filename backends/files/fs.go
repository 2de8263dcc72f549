package files

import "io/fs"

// FS is all that this package asks of a filesystem: the seam at which tests put
// a disk that fails or loses power (see package filestest). Paths are absolute
// and clean. Errors are *fs.PathError around a syscall.Errno, so that
// errors.Is(err, fs.ErrNotExist) and the like hold.
//
// All methods may be called concurrently.
type FS interface {
	// Open opens a file for reading. It follows symbolic links among the parent
	// directories, but a last component that is one fails with ELOOP. It never
	// blocks, whatever kind of file the path names.
	Open(path string) (File, error)
	// Readlink returns the text of a symbolic link; EINVAL for anything else.
	Readlink(path string) (string, error)
	// OpenDir opens a directory, following symbolic links.
	OpenDir(path string) (Dir, error)
}

// Dir is an open directory. Names are single components, looked up in the
// directory that was opened even if its path names another one by now.
type Dir interface {
	// Open is as FS.Open.
	Open(name string) (File, error)
	// Create makes a file that must not exist, open for writing, with mode 0600
	// less what the umask takes.
	Create(name string) (File, error)
	// Link makes another name for a file, and for a symbolic link itself.
	Link(old, name string) error
	Symlink(text, name string) error
	Readlink(name string) (string, error)
	// Rename renames atomically, replacing what is there.
	Rename(old string, to Dir, name string) error
	// Remove removes anything but a directory.
	Remove(name string) error
	Mkdir(name string, mode fs.FileMode) error
	RemoveDir(name string) error
	// OpenDir opens a subdirectory; a symbolic link fails.
	OpenDir(name string) (Dir, error)
	// Lstat does not follow symbolic links.
	Lstat(name string) (Info, error)
	// Names lists the directory, unsorted, without . and .. themselves.
	Names() ([]string, error)
	// Stat describes the directory itself.
	Stat() (Info, error)
	Chmod(mode fs.FileMode) error
	// Lock takes the advisory lock of a file that it makes if need be, and puts
	// info into it. If somebody else has the lock, the error is ErrLocked and
	// holder is what the file says. The lock ends with unlock or with the process.
	Lock(name string, info []byte) (unlock func() error, holder []byte, err error)
	// Sync makes the directory's entries durable.
	Sync() error
	// SyncFS makes everything on the directory's filesystem durable, and reports
	// every failure to do so since the directory was opened. Where the system
	// cannot promise that, it fails with errors.ErrUnsupported.
	SyncFS() error
	Close() error
}

// File is an open file.
type File interface {
	Read(p []byte) (int, error) // 0, io.EOF at the end
	Write(p []byte) (int, error)
	Stat() (Info, error)
	// Chmod sets exactly this mode; the umask has no part in it.
	Chmod(mode fs.FileMode) error
	// Chown sets the owner and group; -1 leaves one as it is.
	Chown(uid, gid int) error
	// Sync makes content, mode and owner durable. It says nothing about the name.
	Sync() error
	Close() error
}

// Info describes a file.
type Info struct {
	// Mode has the type, the permission bits, and setuid, setgid and sticky.
	Mode     fs.FileMode
	UID, GID int
	Size     int64
	// Dev and Ino together tell a file from every other one.
	Dev, Ino uint64
}

// same tells whether two descriptions are of one file.
func (i Info) same(j Info) bool { return i.Dev == j.Dev && i.Ino == j.Ino }
