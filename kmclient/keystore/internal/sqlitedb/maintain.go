package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// readersTime is how long Checkpoint waits for readers to finish. Nobody can write
// meanwhile.
const readersTime = 100 * time.Millisecond

// Checkpoint empties the write-ahead log, which holds overwritten data. If others keep
// using it, the error is ErrInUse, and a later call may succeed.
func (db *DB) Checkpoint(ctx context.Context) error {
	return db.submit(ctx, &job{apart: true, do: func(c *Conn) error {
		c.patience(readersTime)
		defer c.patience(db.wait)
		var busy, log, done int64
		err := c.Row([]any{&busy, &log, &done}, "PRAGMA wal_checkpoint(TRUNCATE)")
		if isBusy(err) || err == nil && busy != 0 {
			return fmt.Errorf("%s: %w", db.path, ErrInUse)
		}
		return err
	}})
}

// Backup writes a copy of the database, as it is now, to a path where there is nothing.
// It writes the whole copy or none.
func (db *DB) Backup(ctx context.Context, path string) error {
	err := makeFile(path, func(path string) error {
		return db.apart(ctx, func(c *Conn) error { return c.Exec("VACUUM INTO ?", path) })
	})
	switch {
	case err == nil, errors.Is(err, kmclient.ErrStore), errors.Is(err, kmclient.ErrUnavailable):
		return err
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: backup of %s: there is a file already: %w", kmclient.ErrStore, db.path, err)
	}
	return fmt.Errorf("%w: backup of %s: %w", kmclient.ErrStore, db.path, err)
}

// Check reads the whole database and reports whether it is sound. This takes a second
// or more per gigabyte.
func (db *DB) Check(ctx context.Context) error {
	return db.apart(ctx, func(c *Conn) error {
		var result string
		if err := c.Row([]any{&result}, "PRAGMA integrity_check(1)"); err != nil || result == "ok" {
			return err
		}
		return fmt.Errorf("%w: %q", ErrDamaged, result)
	})
}
