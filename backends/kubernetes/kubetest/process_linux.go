package kubetest

import "syscall"

// attributes of a child: a group of its own, which Ctrl-C in a terminal does not
// reach, and an end when its parent ends, however that happens.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
