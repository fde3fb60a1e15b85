package terminal

import (
	"context"
	"errors"
	"io"
	"os"
)

// File descriptors of the standard streams.
const (
	stdin = iota
	stdout
	stderr
)

// StandardOutput is standard output that remembers failed writes. Not every command that
// prints a table checks for errors, but none may exit as if all went well.
type StandardOutput struct {
	ctx context.Context
	dst io.Writer
	err error
}

// NewStandardOutput returns standard output. Writing to it ends with ctx.
func NewStandardOutput(ctx context.Context) *StandardOutput { return &StandardOutput{ctx: ctx} }

// until makes writing end with ctx, for a command that has its own context.
func (s *StandardOutput) until(ctx context.Context) { s.ctx, s.dst = ctx, nil }

// open returns the error if standard output can't be written to. A command that uses up
// a key for its output checks first.
func (s *StandardOutput) open() error {
	if s.dst == nil && s.err == nil {
		if wasClosed(stdout) {
			s.err = Fail(ExitIO, "redirect it, to /dev/null if it is not wanted, or name a file with -o", "standard output is closed")
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

// Close closes standard output, since some file systems report a full disk only then.
// It returns any earlier error as well.
func (s *StandardOutput) Close() error {
	if s.dst == nil {
		return s.err
	}
	return errors.Join(s.err, os.Stdout.Close())
}

// syncFile flushes f to disk. It does nothing if f is not on a disk.
func syncFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = f.Sync()
	if block := info.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice; info.Mode().IsRegular() || block {
		return err
	}
	return nil // a pipe or a terminal can't, and needn't
}
