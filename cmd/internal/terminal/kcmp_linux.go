package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

// sameOpening reports whether two descriptors share one open file, as after dup(2). It
// returns false if kcmp(2) is not permitted.
func sameOpening(a, b int) bool {
	const kcmpFile = 0 // KCMP_FILE
	self := uintptr(os.Getpid())
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, self, self, kcmpFile, uintptr(a), uintptr(b), 0)
	return errno == 0 && order == 0
}
