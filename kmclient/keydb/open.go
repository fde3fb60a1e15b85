package keydb

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed" // for the schema
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	schemaVersion = 1
	applicationID = 0x716B6462 // "qkdb": whose SQLite file this is
	readers       = 4          // connections that read at the same time
	busyTimeout   = 10 * time.Second
)

//go:embed schema.sql
var schema string

// Options bound a database.
type Options struct {
	// MaxKeys is how many keys a pool may have; 0 is no limit.
	MaxKeys int
}

// A DB is a file of keys. Its methods may be called from several goroutines at
// the same time.
type DB struct {
	path    string // empty: in memory
	options Options
	sql     *sql.DB
	writer  *conn
	readers chan *conn // those not in use; nil in memory, where the writer reads
	jobs    chan *job
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	closing sync.Once
}

// Open opens the file at path, having made it (mode 0600) and its folders
// (0700) if they are not there. An empty path is a database in memory, which
// is gone with Close. A file that is no SQLite database, is another program's
// or is of a later version is an ErrStore and is left as it is.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	db := &DB{
		path: path, options: o,
		jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if o.MaxKeys < 0 {
		return nil, fmt.Errorf("%w: %d keys at most", kmclient.ErrConfig, o.MaxKeys)
	}
	var err error
	if ctx.Err() != nil {
		err = waitError(ctx)
	}
	if err == nil && path != "" {
		if db.path, err = filepath.Abs(path); err == nil {
			err = prepareFile(ctx, db.path)
		}
	}
	if err == nil {
		err = db.connect(ctx)
	}
	if err != nil {
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

// name is what errors call the database.
func (db *DB) name() string {
	if db.path == "" {
		return "in memory"
	}
	return db.path
}

// prepareFile makes the file, if it is not there, and checks without writing
// to it that it is ours.
func prepareFile(ctx context.Context, path string) error {
	if err := createFile(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // before it is opened: a pipe would block
		return errors.New("not a regular file")
	}
	if info.Size() == 0 {
		return nil
	}
	if err := checkMagic(path); err != nil {
		return err
	}
	look, err := sql.Open("sqlite", dsn(path, "ro"))
	if err != nil {
		return err
	}
	defer func() { _ = look.Close() }()
	var version, application int64
	if err := look.QueryRowContext(ctx, "SELECT user_version, application_id FROM pragma_user_version, pragma_application_id").
		Scan(&version, &application); err != nil {
		return err
	}
	return checkVersion(ctx, look, version, application)
}

// checkVersion reports whether a database is one of ours, and of a version
// that this program knows. One that another process is just making is empty.
func checkVersion(ctx context.Context, look *sql.DB, version, application int64) error {
	switch {
	case application == applicationID && version > schemaVersion:
		return fmt.Errorf("made by a later version of this program: schema %d, and this one knows up to %d", version, schemaVersion)
	case application == applicationID && version == schemaVersion:
		return nil
	}
	var tables int
	if err := look.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if application != 0 || version != 0 || tables != 0 {
		return errors.New("a SQLite database of another program")
	}
	return nil
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
		return errors.New("not a SQLite database; it is left as it is")
	}
	return nil
}

// createFile makes an empty file, durably, unless there is one.
func createFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dsn names a file to the driver; mode is SQLite's: ro, rw or rwc.
func dsn(path, mode string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode":    {mode},
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())},
	}.Encode()}
	return u.String()
}

// connect opens the connections and makes or checks the schema.
func (db *DB) connect(ctx context.Context) (err error) {
	name := ":memory:"
	if db.path != "" {
		name = dsn(db.path, "rw")
	}
	if db.sql, err = sql.Open("sqlite", name); err != nil {
		return err
	}
	if db.writer, err = db.newConn(ctx); err != nil {
		return err
	}
	if err := db.writer.migrate(); err != nil {
		return err
	}
	if db.path == "" {
		return nil
	}
	db.readers = make(chan *conn, readers)
	for range readers {
		c, err := db.newConn(ctx)
		if err != nil {
			return err
		}
		db.readers <- c
	}
	return nil
}

// newConn opens a connection. Turning a new file's write-ahead log on is not
// covered by SQLite's own waiting for other processes.
func (db *DB) newConn(ctx context.Context) (*conn, error) {
	sc, err := db.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{sql: sc, statements: map[string]*sql.Stmt{}}
	for deadline := time.Now().Add(busyTimeout); ; {
		_, err := sc.ExecContext(ctx, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY")
		if err == nil {
			return c, nil
		}
		if !errors.Is(db.storeError(err), kmclient.ErrUnavailable) || time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, waitError(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// migrate brings an empty database to the version that this program writes.
func (c *conn) migrate() (err error) {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = c.exec("ROLLBACK")
		}
	}()
	var version int64
	if err := c.row([]any{&version}, "PRAGMA user_version"); err != nil {
		return err
	}
	switch version {
	case 0:
		text := fmt.Sprintf("%s; PRAGMA application_id=%d; PRAGMA user_version=%d", schema, applicationID, schemaVersion)
		if _, err := c.sql.ExecContext(context.Background(), text); err != nil {
			return err
		}
	case schemaVersion:
	default: // another process has just done it
		return fmt.Errorf("schema %d, and this program knows up to %d", version, schemaVersion)
	}
	return c.exec("COMMIT")
}
