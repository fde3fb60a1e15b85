package etcdtest

import "syscall"

// diesWithParent has etcd killed when the test is.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
