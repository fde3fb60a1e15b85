//go:build unix

package site

import (
	"os"
	"syscall"
)

// ownGroup gives a file the group of the folder that it is made in, where root
// makes it: the packages give /etc/qkdmail to the group that the relay runs as.
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
