package crashtest

import "syscall"

// diesWithParent has a relay killed when the test is.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
