//go:build !unix

package terminal

import (
	"errors"
	"os"
)

// descriptor, openDescriptor, wasClosed and ownedBy: there is nothing of that
// here.

func descriptor(string) (fd int, ok bool) { return 0, false }

func openDescriptor(int, bool) (*os.File, error) { return nil, errors.ErrUnsupported }

func wasClosed(int) bool { return false }

func ownedBy(os.FileInfo) (uid int, ok bool) { return 0, false }
