//go:build unix && !linux

package pgtest

import "syscall"

func attributes(a *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(a)}
}
