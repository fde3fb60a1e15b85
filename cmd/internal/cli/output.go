package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// An output takes the result of a command: standard output, or a file that
// appears under its name only when it is complete.
type output struct {
	io.Writer
	file   *os.File
	target string // "" where file is the target itself, or nothing is to be renamed
	force  bool
}

// errExists tells that the target is there already.
func errExists(path string) error {
	return Fail(ExitCantCreate, "name another, or use --force to overwrite it", "%s exists", path)
}

// WriteOutput has write write the output named path, as createOutput has it; a
// file appears on disk as a whole or not at all.
func WriteOutput(path string, stdout io.Writer, force bool, write func(io.Writer) error) error {
	out, err := createOutput(path, stdout, force)
	if err != nil {
		return err
	}
	defer out.discard()
	if err := write(out); err != nil {
		return err
	}
	return out.finish(true)
}

// createOutput opens the output named path, standard output for "" and "-".
// A file is written beside its target and renamed at the end; a device or a
// pipe is written to directly.
func createOutput(path string, stdout io.Writer, force bool) (*output, error) {
	if path == "" || path == "-" {
		return &output{Writer: stdout}, nil
	}
	mode := fs.FileMode(0o600)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, Fail(ExitCantCreate, "name a file, or use --out-dir", "%s is a folder", path)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, cantCreate(err)
		}
		return &output{Writer: f, file: f}, nil
	case err == nil && !force:
		return nil, errExists(path)
	case err == nil:
		// Behind a symbolic link the file is replaced, not the link.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, cantCreate(err)
		}
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".qkdmail-*.tmp")
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			pe.Path = path // the user knows nothing of the temporary name
		}
		return nil, cantCreate(err)
	}
	if err := f.Chmod(mode); err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return nil, cantCreate(err)
	}
	return &output{Writer: f, file: f, target: path, force: force}, nil
}

func cantCreate(err error) error {
	return Fail(ExitCantCreate, "check that the folder exists and can be written to", "%w", err)
}

// finish puts the output under its name. With sync it is on disk when finish
// returns, as far as the output is a file.
func (o *output) finish(sync bool) error {
	if o.file == nil {
		if f, ok := o.Writer.(*os.File); ok && sync {
			_ = f.Sync() // a pipe or terminal can't, and has nothing to lose
		}
		return nil
	}
	if o.target == "" {
		return o.file.Close()
	}
	defer o.discard()
	if sync {
		if err := o.file.Sync(); err != nil {
			return err
		}
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	if err := o.publish(); err != nil {
		return err
	}
	if sync {
		return syncFolder(filepath.Dir(o.target))
	}
	return nil
}

// publish gives the finished file its name, and does not overwrite one that
// has come up in the meantime.
func (o *output) publish() error {
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

// discard removes what was written of a file. After finish it does nothing
// that matters.
func (o *output) discard() {
	if o.file != nil {
		_ = o.file.Close()
		if o.target != "" {
			_ = os.Remove(o.file.Name())
		}
	}
}

// syncFolder makes a new name durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
