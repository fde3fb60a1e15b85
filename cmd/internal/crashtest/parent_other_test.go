//go:build !linux

package crashtest

import "syscall"

// diesWithParent is Linux's: elsewhere a test that is killed leaves its relays.
func diesWithParent() *syscall.SysProcAttr { return nil }
