//go:build unix

package terminal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is the number of symbolic links that are followed, as in Linux.
const maxLinks = 40

// descriptor returns the file descriptor that a name like /dev/stdout or /dev/fd/3
// stands for, even through symbolic links. Opening the name would open the file again,
// at its beginning, and would fail for a socket.
func descriptor(path string) (fd int, ok bool) {
	path, err := filepath.Abs(path)
	for range maxLinks {
		if err != nil {
			return 0, false
		}
		// Resolve links in the folders first: /dev/fd is one.
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		if fd, ok := descriptorName(path); ok {
			return fd, true
		}
		var target string
		if target, err = os.Readlink(path); err == nil && !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return 0, false
}

// descriptorName is descriptor for a name without symbolic links in its folders.
func descriptorName(path string) (fd int, ok bool) {
	switch path {
	case "/dev/stdin":
		return stdin, true
	case "/dev/stdout":
		return stdout, true
	case "/dev/stderr":
		return stderr, true
	}
	dir, name := filepath.Split(path)
	number, err := strconv.ParseUint(name, 10, 31)
	if err != nil || strconv.FormatUint(number, 10) != name || !isDescriptorFolder(filepath.Clean(dir)) {
		return 0, false
	}
	return int(number), true
}

// isDescriptorFolder reports whether a folder lists the descriptors of this process or
// of one of its threads.
func isDescriptorFolder(dir string) bool {
	if dir == "/dev/fd" {
		return true
	}
	self, err := filepath.EvalSymlinks("/proc/self")
	if err != nil {
		self = "/proc/self"
	}
	if dir == "/proc/self/fd" || dir == self+"/fd" {
		return true
	}
	threads, ok := strings.CutPrefix(dir, self+"/task/")
	return ok && strings.Count(threads, "/") == 1 && strings.HasSuffix(threads, "/fd")
}

// openDescriptor returns a file for a descriptor that this program has inherited, for
// reading or for writing. The file shares its position with the descriptor.
func openDescriptor(fd int, write bool) (*os.File, error) {
	// A descriptor that this process opened itself is close-on-exec. An inherited one
	// is not, or it would not be open.
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 || wasClosed(fd) {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	if flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	switch access := flags & unix.O_ACCMODE; {
	case write && access == unix.O_RDONLY:
		return nil, fmt.Errorf("descriptor %d is open for reading only", fd)
	case !write && access == unix.O_WRONLY:
		return nil, fmt.Errorf("descriptor %d is open for writing only", fd)
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(dup), fmt.Sprintf("descriptor %d", fd)), nil
}

// wasClosed reports whether a standard stream was closed when the program began. Go's
// runtime then opens /dev/null for reading and writing, once for each closed stream. A
// parent that passes /dev/null on purpose usually opens it once for several streams.
func wasClosed(fd int) bool {
	if fd > stderr || !isOpenedNull(fd) {
		return false
	}
	for other := stdin; other <= stderr; other++ {
		if other != fd && sameOpening(fd, other) {
			return false
		}
	}
	return true
}

// isOpenedNull reports whether a descriptor is /dev/null, open for reading and writing.
func isOpenedNull(fd int) bool {
	var have, null unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	err = errors.Join(err, unix.Fstat(fd, &have), unix.Stat(os.DevNull, &null))
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR && have.Mode&unix.S_IFMT == unix.S_IFCHR && have.Rdev == null.Rdev
}

// ownedBy returns the user ID of a file's owner.
func ownedBy(info os.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
