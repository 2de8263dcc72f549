package files

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

func fsync(fd int) error { return unix.Fsync(fd) }

// syncFS is syncfs(2) where that keeps the promise of Dir.SyncFS: since Linux 5.8
// it reports failed writes, and on the filesystems below it reaches the disk. On
// others, such as FUSE and network ones, the server may not even hear of it.
func syncFS(fd int) error {
	if !syncFSReports() {
		return errors.ErrUnsupported
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return unix.Syncfs(fd)
	}
	return errors.ErrUnsupported
}

var syncFSReports = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	field := &major
	for _, c := range u.Release {
		switch {
		case c >= '0' && c <= '9':
			*field = *field*10 + int(c-'0')
			continue
		case c == '.' && field == &major:
			field = &minor
			continue
		}
		break
	}
	return major > 5 || major == 5 && minor >= 8
})
