package terminal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/spf13/cobra"
)

// An Output takes the result of a command: standard output, what is written to
// as it is, or a file that appears under its name only when it is complete.
type Output struct {
	io.Writer
	file   *os.File
	target string // "" where file is the target itself
	force  bool
	mode   fs.FileMode // of the finished file; until then nobody else reads it
}

// errExists tells that the target is there already.
func errExists(path string) error {
	return Fail(ExitCantCreate, "name another, or use --force to overwrite it", "%s exists", path)
}

// WriteOutput has write write the output named path, as [CreateOutput] has it; a
// file appears on disk as a whole or not at all.
func WriteOutput(cmd *cobra.Command, path string, force bool, write func(io.Writer) error) error {
	defer UntilHangUp(cmd)()
	out, err := CreateOutput(cmd, path, force)
	if err != nil {
		return err
	}
	defer out.Discard()
	if err := write(out); err != nil {
		return err
	}
	return out.Finish(true)
}

// UntilHangUp has a command end with a SIGHUP as well until stop is called: with a
// terminal that is closed, say, unless nohup has it go on. Without that, temporary
// files would stay.
func UntilHangUp(cmd *cobra.Command) (stop func()) {
	if signal.Ignored(syscall.SIGHUP) {
		return func() {}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	cmd.SetContext(ctx)
	return stop
}

// CreateOutput opens the output named path, standard output for "" and "-". A
// file is written beside its target and renamed at the end. A device, a pipe, or
// what a name like /dev/fd/3 stands for is written to as it is; opening it and
// writing to it end with the command's context.
func CreateOutput(cmd *cobra.Command, path string, force bool) (*Output, error) {
	ctx := cmd.Context()
	fd, named := descriptor(path)
	switch {
	case path == "" || path == "-" || named && fd == stdout:
		return ToStandardOutput(cmd.OutOrStdout())
	case named:
		f, err := openDescriptor(fd, true)
		if err != nil {
			return nil, Fail(ExitCantCreate, "name a file", "%s: %w", path, err)
		}
		return &Output{Writer: writing(ctx, f), file: f}, nil
	}
	mode := fs.FileMode(0o600)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, Fail(ExitCantCreate, "name a file, or use --out-dir", "%s is a folder", path)
	case err == nil && !info.Mode().IsRegular():
		return openSpecial(ctx, path, info, force)
	case err == nil && !force:
		return nil, errExists(path)
	case err == nil:
		// Behind a symbolic link the file is replaced, not the link.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, CantCreate(err)
		}
		if uid, known := ownedBy(info); known && uid == os.Geteuid() {
			mode = info.Mode().Perm() // what others may do with their file says nothing about ours
		}
	}
	return createFile(path, mode, force)
}

// ToStandardOutput returns the output to the command's standard output, if that
// can be written to.
func ToStandardOutput(w io.Writer) (*Output, error) {
	s, ok := w.(*StandardOutput)
	if !ok {
		return &Output{Writer: w}, nil
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return &Output{Writer: s}, nil
}

// createFile makes a file that is to become path.
func createFile(path string, mode fs.FileMode, force bool) (*Output, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".qkdmail-*.tmp")
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			pe.Path = path // the user knows nothing of the temporary name
		}
		return nil, CantCreate(err)
	}
	return &Output{Writer: f, file: f, target: path, force: force, mode: mode}, nil
}

// openSpecial opens what is no regular file and no folder, to write to it as it
// is. One of another user is refused without force: in a folder like /tmp it may
// have been made to get hold of what is written. Devices are made by root only.
func openSpecial(ctx context.Context, path string, info fs.FileInfo, force bool) (*Output, error) {
	check := func(info fs.FileInfo) error {
		uid, known := ownedBy(info)
		switch device := info.Mode()&fs.ModeDevice != 0; {
		case info.Mode()&fs.ModeSocket != 0:
			return Fail(ExitCantCreate, "name a file or a pipe", "%s is a socket", path)
		case known && !force && uid != os.Geteuid() && !(device && uid == 0):
			return Fail(ExitCantCreate, "use --force if it is meant", "%s belongs to another user (uid %d), who could read what is written to it", path, uid)
		}
		return nil
	}
	if err := check(info); err != nil {
		return nil, err
	}
	f, err := await(ctx, func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) })
	if err != nil {
		return nil, CantCreate(err)
	}
	if info, err = f.Stat(); err == nil { // it may be another one by now
		err = check(info)
	}
	if err == nil && info.Mode().IsRegular() {
		err = errExists(path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Output{Writer: writing(ctx, f), file: f}, nil
}

// CantCreate makes the error of an output that can't be made.
func CantCreate(err error) error {
	return Fail(ExitCantCreate, "check that the folder exists and can be written to", "%w", err)
}

// Finish puts the output under its name. With sync it is on disk when Finish
// returns, as far as the output is a file.
func (o *Output) Finish(sync bool) error {
	if o.file == nil {
		if _, ok := o.Writer.(*StandardOutput); ok && sync {
			return syncFile(os.Stdout)
		}
		return nil
	}
	defer o.Discard()
	if o.target != "" {
		if err := o.file.Chmod(o.mode); err != nil {
			return CantCreate(err)
		}
	}
	if sync {
		if err := syncFile(o.file); err != nil {
			return err
		}
	}
	if err := o.file.Close(); err != nil || o.target == "" {
		return err
	}
	if err := o.publish(); err != nil {
		return err
	}
	if sync {
		return durable.Sync(filepath.Dir(o.target))
	}
	return nil
}

// publish gives the finished file its name, and does not overwrite one that
// has come up in the meantime.
func (o *Output) publish() error {
	if o.force {
		return os.Rename(o.file.Name(), o.target)
	}
	err := os.Link(o.file.Name(), o.target)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return errExists(o.target)
	}
	// A file system without hard links.
	if _, err := os.Lstat(o.target); !errors.Is(err, fs.ErrNotExist) {
		return errExists(o.target)
	}
	return os.Rename(o.file.Name(), o.target)
}

// Discard removes what was written of a file. After Finish it does nothing
// that matters.
func (o *Output) Discard() {
	if o.file != nil {
		_ = o.file.Close()
		if o.target != "" {
			_ = os.Remove(o.file.Name())
		}
	}
}
