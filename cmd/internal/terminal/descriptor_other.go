//go:build !unix

package terminal

import (
	"errors"
	"os"
)

// This system has no names for descriptors and no numbers for owners.

func descriptor(string) (fd int, ok bool) { return 0, false }

func openDescriptor(int, bool) (*os.File, error) { return nil, errors.ErrUnsupported }

func wasClosed(int) bool { return false }

func ownedBy(os.FileInfo) (uid int, ok bool) { return 0, false }
