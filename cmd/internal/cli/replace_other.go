//go:build !unix

package cli

import (
	"errors"
	"os"
	"os/exec"
)

// replace runs a program and ends with its exit code.
func replace(program string, args []string) error {
	cmd := exec.Command(program, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok || err == nil {
		code := 0
		if ok {
			code = exit.ExitCode()
		}
		os.Exit(code)
	}
	return err
}
