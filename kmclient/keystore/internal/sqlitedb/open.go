package sqlitedb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	mostReaders = 4 // connections that read at the same time
	defaultWait = 10 * time.Second
)

// A Format is a kind of file.
type Format struct {
	Application int64    // SQLite's application_id: whose file this is; not zero
	Migrations  []string // SQL that brings a file from each schema version to the next, from 0, which is an empty file
}

// A DB is an open database. Its methods may be called from several goroutines
// at the same time.
type DB struct {
	path    string
	file    os.FileInfo // the file at path
	format  Format
	wait    time.Duration
	writer  *Conn
	readers *readers
	opened  int // readers
	jobs    chan *job
	commits atomic.Int64
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	closing sync.Once
}

// Open opens the file at path. If it does not exist, Open makes it (mode 0600) and its
// folders (0700). wait is how long to wait for a lock that another process holds; 10 s
// if zero. Errors wrap kmclient.ErrStore, or kmclient.ErrUnavailable if ctx has ended.
func Open(ctx context.Context, path string, f Format, wait time.Duration) (*DB, error) {
	db := &DB{
		path: path, format: f, wait: cmp.Or(wait, defaultWait),
		readers: newReaders(mostReaders), jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := db.open(ctx); err != nil {
		_ = db.closeAll()
		if err = db.storeError(err); !errors.Is(err, kmclient.ErrStore) && !errors.Is(err, kmclient.ErrUnavailable) {
			err = fmt.Errorf("%w %s: %w", kmclient.ErrStore, db.path, err)
		}
		return nil, err
	}
	go db.run()
	return db, nil
}

func (db *DB) open(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		return kmclient.Canceled(ctx)
	}
	if db.path, err = filepath.Abs(db.path); err != nil {
		return err
	}
	if err := db.prepareFile(); err != nil {
		return err
	}
	if db.file, err = os.Stat(db.path); err != nil {
		return err
	}
	if db.writer, err = db.newConn(ctx); err != nil {
		return err
	}
	if err := db.writer.migrate(db.format); err != nil {
		return err
	}
	for range mostReaders {
		c, err := db.newConn(ctx)
		if err != nil {
			return err
		}
		db.readers.give(c)
		db.opened++
	}
	return nil
}

// Close finishes what is being written and closes the file; afterwards every call
// returns ErrClosed. Closing twice does no harm.
func (db *DB) Close() (err error) {
	db.closing.Do(func() {
		close(db.quit)
		<-db.done
		err = db.storeError(db.closeAll())
	})
	return err
}

// closeAll closes the connections, once those in use have come back.
func (db *DB) closeAll() (err error) {
	for range db.opened {
		<-db.readers.free
		err = errors.Join(err, db.readers.take().close())
	}
	if db.writer != nil {
		err = errors.Join(err, db.writer.close())
	}
	return err
}

// Commits returns how many commits were made since the database was opened,
// each with its fsync.
func (db *DB) Commits() int64 { return db.commits.Load() }

// pragmas set up a connection. A commit is an fsync of the write-ahead log; a log of 16
// MiB is copied into the file in one go.
const pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY; " +
	"PRAGMA cache_size=-4000; PRAGMA wal_autocheckpoint=4000"

// newConn opens a connection. SQLite's own waiting for other processes does not cover
// turning on the write-ahead log.
func (db *DB) newConn(ctx context.Context) (*Conn, error) {
	c, err := connect(db.path, sqlite.OpenReadWrite, db.wait)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(db.wait); ; {
		err := c.script(pragmas)
		if err == nil {
			return c, nil
		}
		if isBusy(err) && time.Now().Before(deadline) {
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = kmclient.Canceled(ctx)
			}
		}
		_ = c.close()
		return nil, err
	}
}

// migrate brings a database to the schema of its format.
func (c *Conn) migrate(f Format) (err error) {
	if err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = c.Exec("ROLLBACK")
		}
	}()
	version, err := c.version(f)
	if err != nil {
		return err
	}
	for i, step := range f.Migrations[version:] {
		text := fmt.Sprintf("%s; PRAGMA application_id=%d; PRAGMA user_version=%d", step, f.Application, version+i+1)
		if err := c.script(text); err != nil {
			return err
		}
	}
	return c.Exec("COMMIT")
}

// version returns the schema version, if this program knows it: another process, of
// a later version, may migrate the file at any time.
func (c *Conn) version(f Format) (version int, err error) {
	if err := c.Row([]any{&version}, "PRAGMA user_version"); err != nil {
		return 0, err
	}
	return version, f.knows(version)
}

// knows returns an error for a schema that this program does not know.
func (f Format) knows(version int) error {
	switch {
	case version < 0:
		return fmt.Errorf("%w: schema %d", ErrDamaged, version)
	case version <= len(f.Migrations):
		return nil
	}
	return fmt.Errorf("%w: schema %d, and this program knows up to %d", errLater, version, len(f.Migrations))
}
