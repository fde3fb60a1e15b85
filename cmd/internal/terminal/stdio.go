package terminal

import (
	"context"
	"errors"
	"io"
	"os"
)

// The standard streams by their numbers.
const (
	stdin = iota
	stdout
	stderr
)

// StandardOutput remembers that a write failed: not every command that prints a
// table looks, but none may end as if all were well.
type StandardOutput struct {
	ctx context.Context
	dst io.Writer
	err error
}

// NewStandardOutput returns standard output. Writing to it ends with ctx.
func NewStandardOutput(ctx context.Context) *StandardOutput { return &StandardOutput{ctx: ctx} }

// open returns why standard output can't be written to. A command that uses a
// key up for its output looks before.
func (s *StandardOutput) open() error {
	if s.dst == nil && s.err == nil {
		if wasClosed(stdout) {
			s.err = Fail(ExitIO, "redirect it, to /dev/null if nobody wants it, or name a file with -o", "standard output is closed")
		} else {
			s.dst = writing(s.ctx, os.Stdout)
		}
	}
	return s.err
}

func (s *StandardOutput) Write(p []byte) (n int, err error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	n, s.err = s.dst.Write(p)
	return n, s.err
}

// Close closes standard output: some file systems say only then that they had no
// room. It returns the first error there was.
func (s *StandardOutput) Close() error {
	if s.dst == nil {
		return s.err
	}
	return errors.Join(s.err, os.Stdout.Close())
}

// syncFile has f on disk, if it is on one.
func syncFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = f.Sync()
	if block := info.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice; info.Mode().IsRegular() || block {
		return err
	}
	return nil // a pipe or a terminal can't, and has nothing to lose
}
