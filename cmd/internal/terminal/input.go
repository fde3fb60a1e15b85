package terminal

import (
	"context"
	"io"
	"os"
)

// OpenInput opens the file arg, or standard input if arg is "-". Opening and reading
// end with ctx.
func OpenInput(ctx context.Context, arg string) (in io.Reader, closeInput func(), err error) {
	fd, named := descriptor(arg)
	if arg == "-" || named && fd == stdin {
		if wasClosed(stdin) {
			return nil, nil, Fail(ExitNoInput, "name a file, or redirect standard input from one", "standard input is closed")
		}
		return reading(ctx, os.Stdin), func() {}, nil
	}
	f, err := Await(ctx, func() (*os.File, error) {
		if named {
			return openDescriptor(fd, false)
		}
		return os.Open(arg)
	})
	if err != nil {
		return nil, nil, NoInput(err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, nil, Fail(ExitNoInput, "name a file", "%s is a folder", arg)
	}
	return reading(ctx, f), func() { _ = f.Close() }, nil
}

// NoInput returns the error for an input that can't be opened.
func NoInput(err error) error {
	return Fail(ExitNoInput, "check the name and its permissions", "%w", err)
}

// InputName returns the name of the input arg for messages.
func InputName(arg string) string {
	if arg == "-" {
		return "standard input"
	}
	return arg
}
