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

// An Output takes the result of a command. It is standard output, a device, a pipe, or a
// file that gets its name only when it is complete.
type Output struct {
	io.Writer
	file   *os.File
	target string // "" if file is the target itself
	force  bool
	mode   fs.FileMode // of the finished file; until then only its owner can read it
}

// errExists returns the error for a target that exists.
func errExists(path string) error {
	return Fail(ExitCantCreate, "name another, or use --force to overwrite it", "%s exists", path)
}

// WriteOutput calls write with the output that [CreateOutput] opens. The whole file is
// on disk in the end, or none of it.
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

// UntilHangUp makes SIGHUP end the command's context, until stop is called, so that
// temporary files are removed when the terminal is closed. Under nohup it does nothing.
func UntilHangUp(cmd *cobra.Command) (stop func()) {
	if signal.Ignored(syscall.SIGHUP) {
		return func() {}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
	cmd.SetContext(ctx)
	return stop
}

// CreateOutput opens the output path, or standard output if path is "" or "-". A file
// is written next to its target and renamed at the end. A device, a pipe, or the file
// behind a name like /dev/fd/3 is written directly; opening and writing it end with
// the command's context.
func CreateOutput(cmd *cobra.Command, path string, force bool) (*Output, error) {
	ctx := cmd.Context()
	fd, named := descriptor(path)
	switch {
	case path == "" || path == "-" || named && fd == stdout:
		return ToStandardOutput(cmd)
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
		// A symbolic link is kept, and the file that it points to is replaced.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, CantCreate(err)
		}
		if uid, known := ownedBy(info); known && uid == os.Geteuid() {
			mode = info.Mode().Perm() // another user's file must not decide who may read ours
		}
	}
	return createFile(path, mode, force)
}

// CreateFile opens a file that will have this mode, whatever it replaces. If path exists
// and is not a regular file, it returns an error, even with force.
func CreateFile(path string, mode fs.FileMode, force bool) (*Output, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, Fail(ExitCantCreate, "name a file", "%s is not a regular file", path)
	case err == nil && !force:
		return nil, errExists(path)
	case err == nil: // as in CreateOutput, a link is kept
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, CantCreate(err)
		}
	}
	return createFile(path, mode, force)
}

// ToStandardOutput returns an output for the command's standard output, or an error if
// it can't be written to. Writing it ends with the command's context.
func ToStandardOutput(cmd *cobra.Command) (*Output, error) {
	w := cmd.OutOrStdout()
	s, ok := w.(*StandardOutput)
	if !ok {
		return &Output{Writer: w}, nil
	}
	s.until(cmd.Context())
	if err := s.open(); err != nil {
		return nil, err
	}
	return &Output{Writer: s}, nil
}

// createFile creates a temporary file that will become path.
func createFile(path string, mode fs.FileMode, force bool) (*Output, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".qkdmail-*.tmp")
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			pe.Path = path // the temporary name says nothing to the user
		}
		return nil, CantCreate(err)
	}
	return &Output{Writer: f, file: f, target: path, force: force, mode: mode}, nil
}

// openSpecial opens a device, a pipe or the like for writing. Without force it refuses
// one that belongs to another user, since in a folder like /tmp it may be a trap for
// what is written. Only root can create devices.
func openSpecial(ctx context.Context, path string, info fs.FileInfo, force bool) (*Output, error) {
	check := func(info fs.FileInfo) error {
		uid, known := ownedBy(info)
		switch device := info.Mode()&fs.ModeDevice != 0; {
		case info.Mode()&fs.ModeSocket != 0:
			return Fail(ExitCantCreate, "name a file or a pipe", "%s is a socket", path)
		case known && !force && uid != os.Geteuid() && !(device && uid == 0):
			return Fail(ExitCantCreate, "use --force if that is intended", "%s belongs to another user (uid %d), who could read what is written to it", path, uid)
		}
		return nil
	}
	if err := check(info); err != nil {
		return nil, err
	}
	f, err := Await(ctx, func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) })
	if err != nil {
		return nil, CantCreate(err)
	}
	if info, err = f.Stat(); err == nil { // it may have been replaced since
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

// CheckOwner refuses a path that belongs to another user: in a folder like /tmp it may
// be a trap for what is written into it.
func CheckOwner(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // it does not exist, so it has no owner
	}
	if uid, known := ownedBy(info); known && uid != os.Geteuid() {
		return Fail(ExitCantCreate, "name another output", "%s belongs to another user (uid %d)", path, uid)
	}
	return nil
}

// CantCreate returns the error for an output that can't be created.
func CantCreate(err error) error {
	return Fail(ExitCantCreate, "check that the folder exists and can be written to", "%w", err)
}

// Finish completes the output and gives a file its name. With sync, a file is on disk
// when Finish returns.
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

// publish gives the finished file its name. Without force it does not overwrite a file
// created in the meantime.
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
	// The file system has no hard links.
	if _, err := os.Lstat(o.target); !errors.Is(err, fs.ErrNotExist) {
		return errExists(o.target)
	}
	return os.Rename(o.file.Name(), o.target)
}

// Discard removes an unfinished file. After Finish it has no effect.
func (o *Output) Discard() {
	if o.file != nil {
		_ = o.file.Close()
		if o.target != "" {
			_ = os.Remove(o.file.Name())
		}
	}
}
