package files

import (
	"errors"

	"golang.org/x/sys/unix"
)

// fsync asks the drive, too, to write what it caches: fsync(2) on darwin does not.
// Filesystems that do not know the request get the plain one.
func fsync(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0); err == nil {
		return nil
	}
	return unix.Fsync(fd)
}

func syncFS(int) error { return errors.ErrUnsupported }
