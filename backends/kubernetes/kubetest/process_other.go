//go:build !linux

package kubetest

import "syscall"

// attributes of a child: a group of its own, which Ctrl-C in a terminal does not
// reach. Nothing ends it if its parent is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
