//go:build unix

package spec

import (
	"io/fs"
	"syscall"
)

// inode identifies a file, whatever its names.
type inode struct{ device, number uint64 }

// identity returns a file's inode and how many names it has.
func identity(info fs.FileInfo) (inode, uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, 1
	}
	return inode{uint64(st.Dev), uint64(st.Ino)}, uint64(st.Nlink)
}
