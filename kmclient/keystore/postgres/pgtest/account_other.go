//go:build !unix

package pgtest

import "syscall"

func serverAccount() (*account, error) { return nil, nil }

func attributes(*account) *syscall.SysProcAttr { return nil }
