package pgtest

import "syscall"

// attributes makes a server run as an account and end with the test.
func attributes(a *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(a), Pdeathsig: syscall.SIGQUIT}
}
