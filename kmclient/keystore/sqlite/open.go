package sqlite

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
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

const (
	applicationID = 0x716B6473 // "qkds": whose SQLite file this is
	readers       = 4          // connections that read at the same time
	defaultWait   = 10 * time.Second
)

//go:embed schema1.sql
var schema1 string

// migrations returns what brings a file from one schema version to the next,
// from version 0, which is an empty file.
func migrations() []string { return []string{schema1} }

// Options of a file. The zero value is fit for use.
type Options struct {
	Wait time.Duration // for another process that holds the lock; 10 s if zero
}

// A Store is a file of records. Its methods may be called from several
// goroutines at the same time.
type Store struct {
	path    string
	wait    time.Duration
	sql     *sql.DB
	writer  *conn
	readers chan *conn // those not in use
	jobs    chan *job
	commits atomic.Int64
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended
	closing sync.Once
}

var _ keystore.Store = (*Store)(nil)

// Open opens the file at path, having made it (mode 0600) and its folders
// (0700) if they are not there. A file that is no SQLite database, is another
// program's or is of a later version is a kmclient.ErrStore and is left as it
// is.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s := &Store{
		path: path, wait: o.Wait,
		readers: make(chan *conn, readers),
		jobs:    make(chan *job), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if s.wait <= 0 {
		s.wait = defaultWait
	}
	if err := s.open(ctx); err != nil {
		if s.sql != nil {
			_ = s.sql.Close()
		}
		return nil, s.storeError(err)
	}
	go s.run()
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		return waitError(ctx)
	}
	if s.path, err = filepath.Abs(s.path); err != nil {
		return err
	}
	if err := prepareFile(ctx, s.path, s.wait); err != nil {
		return err
	}
	if s.sql, err = sql.Open("sqlite", dsn(s.path, "rw", s.wait)); err != nil {
		return err
	}
	if s.writer, err = s.newConn(ctx); err != nil {
		return err
	}
	if err := s.writer.migrate(); err != nil {
		return err
	}
	for range readers {
		c, err := s.newConn(ctx)
		if err != nil {
			return err
		}
		s.readers <- c
	}
	return nil
}

// Close ends what is being written and closes the file. Closing twice does no
// harm.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		close(s.quit)
		<-s.done
		for range readers { // those in use come back first
			err = errors.Join(err, (<-s.readers).close())
		}
		err = s.storeError(errors.Join(err, s.writer.close(), s.sql.Close()))
	})
	return err
}

// prepareFile makes the file, if it is not there, and checks without writing
// to it that it is ours.
func prepareFile(ctx context.Context, path string, wait time.Duration) error {
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
	look, err := sql.Open("sqlite", dsn(path, "ro", wait))
	if err != nil {
		return err
	}
	defer func() { _ = look.Close() }()
	var application, version, tables int64
	if err := look.QueryRowContext(ctx, `SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_user_version, pragma_application_id`).Scan(&version, &application, &tables); err != nil {
		return err
	}
	switch known := int64(len(migrations())); {
	case application == applicationID && version > known:
		return fmt.Errorf("made by a later version of this program: schema %d, and this one knows up to %d", version, known)
	case application != applicationID && (application != 0 || version != 0 || tables != 0):
		return errors.New("a SQLite database of another program")
	}
	return nil // an empty one is just being made by another process
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
		return errors.New("not a SQLite database, or its beginning is damaged; it is left as it is")
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
	return syncFile(dir)
}

// syncFile waits until a file or a folder is on disk.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// dsn names a file to the driver; mode is SQLite's: ro or rw.
func dsn(path, mode string, wait time.Duration) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode":    {mode},
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds())},
	}.Encode()}
	return u.String()
}

// newConn opens a connection. Turning a new file's write-ahead log on is not
// covered by SQLite's own waiting for other processes.
func (s *Store) newConn(ctx context.Context) (*conn, error) {
	sc, err := s.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{sql: sc, statements: map[string]*sql.Stmt{}}
	for deadline := time.Now().Add(s.wait); ; {
		_, err := sc.ExecContext(ctx, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY; "+
			"PRAGMA cache_size=-16000; PRAGMA wal_autocheckpoint=4000")
		if err == nil {
			return c, nil
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, waitError(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// migrate brings a file to the schema of this program.
func (c *conn) migrate() (err error) {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = c.exec("ROLLBACK")
		}
	}()
	var version int
	if err := c.row([]any{&version}, "PRAGMA user_version"); err != nil {
		return err
	}
	steps := migrations()
	if version > len(steps) { // another process has just done it
		return fmt.Errorf("schema %d, and this program knows up to %d", version, len(steps))
	}
	for i, step := range steps[version:] {
		text := fmt.Sprintf("%s; PRAGMA application_id=%d; PRAGMA user_version=%d", step, applicationID, version+i+1)
		if _, err := c.sql.ExecContext(context.Background(), text); err != nil {
			return err
		}
	}
	return c.exec("COMMIT")
}
