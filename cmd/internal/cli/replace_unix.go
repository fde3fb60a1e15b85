//go:build unix

package cli

import (
	"os"
	"syscall"
)

// replace runs a program in the place of this one, in the same process.
func replace(program string, args []string) error {
	return syscall.Exec(program, args, os.Environ())
}
