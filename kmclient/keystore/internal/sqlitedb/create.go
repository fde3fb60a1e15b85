package sqlitedb

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient/durable"
	"zombiezen.com/go/sqlite"
)

// prepareFile makes the file if it does not exist, and checks, without writing to it,
// that it has the right format.
func (db *DB) prepareFile() error {
	info, err := os.Stat(db.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeFile(db.path, func(path string) error { return db.create(path) })
		if err == nil || errors.Is(err, fs.ErrExist) { // another process was faster
			info, err = os.Stat(db.path)
		}
	}
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular(): // checked before opening: a pipe would block
		return errors.New("not a regular file")
	case info.Size() == 0:
		return errors.New("empty, but it was not made empty: restore a backup, or remove it to begin anew")
	}
	if err := checkMagic(db.path); err != nil {
		return err
	}
	if err := checkLog(db.path); err != nil {
		return err
	}
	look, err := connect(db.path, sqlite.OpenReadOnly, db.wait)
	if err != nil {
		return err
	}
	defer func() { _ = look.close() }()
	var application int64
	var version int
	err = look.Row([]any{&version, &application}, "SELECT user_version, application_id FROM pragma_user_version, pragma_application_id")
	switch {
	case err != nil:
		return err
	case application != db.format.Application:
		return errors.New("an SQLite database of another program")
	}
	return db.format.knows(version)
}

func checkMagic(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	magic := []byte("SQLite format 3\x00")
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, magic) {
		return errors.New("not an SQLite database, or its beginning is damaged; leave it as it is, and restore a backup if it held keys")
	}
	return nil
}

// create puts the newest schema into an empty file.
func (db *DB) create(path string) error {
	c, err := connect(path, sqlite.OpenReadWrite, db.wait)
	if err != nil {
		return err
	}
	return errors.Join(c.migrate(db.format), c.close())
}

// makeFile makes a file (mode 0600) and its folders (0700), complete and durable, or
// not at all. fill fills it, from empty. If the file exists, the error is fs.ErrExist.
func makeFile(path string, fill func(path string) error) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "make", Path: path, Err: fs.ErrExist}
	}
	dir := filepath.Dir(path)
	if err := durable.MakeFolder(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := f.Close(); err != nil {
		return err
	}
	if err := fill(f.Name()); err != nil {
		return err
	}
	if err := durable.Sync(f.Name()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return durable.Sync(dir)
}
