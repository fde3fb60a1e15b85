//go:build unix

package storekey

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// likeOld gives an open file the owner, group and permissions of the file that it will
// replace: root may change the store key of a relay that runs as another user. The
// owner of the folder could have replaced the name with a link, so likeOld changes the
// open file itself. If that is impossible, it fails before any change.
func likeOld(f *os.File, old string) error {
	info, err := os.Stat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	was, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
		return err
	}
	return f.Chmod(info.Mode().Perm())
}
