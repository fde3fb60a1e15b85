package pgtest

import "syscall"

// attributes has a server run as an account, and end when the test does.
func attributes(a *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(a), Pdeathsig: syscall.SIGQUIT}
}
