//go:build !linux

package sqlite_test

import "testing"

func smallDisk(t *testing.T) string {
	t.Skip("SKIPPED: a small file system is mounted only on Linux")
	return ""
}

func remount(*testing.T, string, bool) {}

func fillDisk(*testing.T, string) func() { return func() {} }
