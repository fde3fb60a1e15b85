//go:build unix

package site

import (
	"os"
	"syscall"
)

// ownGroup gives a file made by root the group of its folder: in the packages,
// /etc/qkdmail belongs to the relay's group.
func ownGroup(dir string, f *os.File) error {
	if os.Getuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return f.Chown(-1, int(st.Gid))
	}
	return nil
}
