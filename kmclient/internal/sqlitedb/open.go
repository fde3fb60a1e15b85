package sqlitedb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	readers     = 4 // connections that read at the same time
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
	path    string // empty: in memory
	format  Format
	wait    time.Duration
	sql     *sql.DB
	writer  *Conn
	readers chan *Conn // those not in use; nil in memory, where the writer reads
	jobs    chan *job
	commits atomic.Int64
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	closing sync.Once
}

// Open opens the file at path, having made it (mode 0600) and its folders
// (0700) if they are not there. An empty path is a database in memory, which
// is gone with Close. wait is for the lock that another process holds; 10 s if
// zero. Errors are a kmclient.ErrStore, or a kmclient.ErrUnavailable if ctx has
// ended.
func Open(ctx context.Context, path string, f Format, wait time.Duration) (*DB, error) {
	db := &DB{
		path: path, format: f, wait: cmp.Or(wait, defaultWait),
		jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := db.open(ctx); err != nil {
		if db.sql != nil {
			_ = db.sql.Close()
		}
		if err = db.storeError(err); !errors.Is(err, kmclient.ErrStore) && !errors.Is(err, kmclient.ErrUnavailable) {
			err = fmt.Errorf("%w %s: %w", kmclient.ErrStore, db.name(), err)
		}
		return nil, err
	}
	go db.run()
	return db, nil
}

func (db *DB) open(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		return kmclient.GaveUp(ctx)
	}
	name := ":memory:"
	if db.path != "" {
		if db.path, err = filepath.Abs(db.path); err != nil {
			return err
		}
		if err := db.prepareFile(ctx); err != nil {
			return err
		}
		name = dsn(db.path, "rw", db.wait)
	}
	if db.sql, err = sql.Open("sqlite", name); err != nil {
		return err
	}
	if db.writer, err = db.newConn(ctx); err != nil {
		return err
	}
	if err := db.writer.migrate(db.format); err != nil {
		return err
	}
	if db.path == "" {
		return nil
	}
	db.readers = make(chan *Conn, readers)
	for range readers {
		c, err := db.newConn(ctx)
		if err != nil {
			return err
		}
		db.readers <- c
	}
	return nil
}

// Close ends what is being written and closes the file; whatever is called
// afterwards is an ErrClosed. Closing twice does no harm.
func (db *DB) Close() (err error) {
	db.closing.Do(func() {
		close(db.quit)
		<-db.done
		if db.readers != nil {
			for range readers { // those in use come back first
				err = errors.Join(err, (<-db.readers).close())
			}
		}
		err = db.storeError(errors.Join(err, db.writer.close(), db.sql.Close()))
	})
	return err
}

// Commits returns how many commits were made since the database was opened,
// each with its fsync.
func (db *DB) Commits() int64 { return db.commits.Load() }

// name is what errors call the database.
func (db *DB) name() string { return cmp.Or(db.path, "in memory") }

// pragmas set a connection up. A commit is an fsync of the write-ahead log; a
// log of 16 MiB is copied into the file in one go.
const pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY; " +
	"PRAGMA cache_size=-16000; PRAGMA wal_autocheckpoint=4000"

// newConn opens a connection. Turning the write-ahead log on is not covered by
// SQLite's own waiting for other processes.
func (db *DB) newConn(ctx context.Context) (*Conn, error) {
	sc, err := db.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &Conn{sql: sc, statements: map[string]*sql.Stmt{}}
	for deadline := time.Now().Add(db.wait); ; {
		_, err := sc.ExecContext(ctx, pragmas)
		if err == nil {
			return c, nil
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, kmclient.GaveUp(ctx)
		case <-time.After(5 * time.Millisecond):
		}
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
		if _, err := c.sql.ExecContext(context.Background(), text); err != nil {
			return err
		}
	}
	return c.Exec("COMMIT")
}

// version returns the schema version, which is one that this program knows:
// another process, of a later version, may have migrated the file at any time.
func (c *Conn) version(f Format) (version int, err error) {
	if err := c.Row([]any{&version}, "PRAGMA user_version"); err != nil {
		return 0, err
	}
	return version, f.knows(version)
}

// knows reports a schema that this program does not know.
func (f Format) knows(version int) error {
	switch {
	case version < 0:
		return fmt.Errorf("%w: schema %d", ErrDamaged, version)
	case version <= len(f.Migrations):
		return nil
	}
	return fmt.Errorf("%w: schema %d, and this one knows up to %d", errLater, version, len(f.Migrations))
}
