//go:build !linux

package etcdtest

import "syscall"

// diesWithParent is Linux's: elsewhere a test that is killed leaves its etcd.
func diesWithParent() *syscall.SysProcAttr { return nil }
