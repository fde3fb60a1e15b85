package keydb

import (
	"context"
	_ "embed" // for the schema
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/sqlitedb"
)

var (
	//go:embed schema1.sql
	schema1 string
	//go:embed schema2.sql
	schema2 string
)

// format is that of key files.
func format() sqlitedb.Format {
	return sqlitedb.Format{
		Application: 0x716B6462, // "qkdb"
		Migrations:  []string{schema1, schema2},
	}
}

// Options bound a database.
type Options struct {
	// MaxKeys is how many keys a pool may have; 0 is no limit.
	MaxKeys int
}

// A DB is a file of keys. Its methods may be called from several goroutines at
// the same time.
type DB struct {
	options Options
	file    *sqlitedb.DB
}

// Open opens the file at path, having made it (mode 0600) and its folders
// (0700) if they are not there. An empty path is a database in memory, which
// is gone with Close. A file that is no SQLite database, is another program's
// or is of a later version is an ErrStore and is left as it is.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	if o.MaxKeys < 0 {
		return nil, fmt.Errorf("%w: %d keys at most", kmclient.ErrConfig, o.MaxKeys)
	}
	file, err := sqlitedb.Open(ctx, path, format(), 0)
	if err != nil {
		return nil, err
	}
	return &DB{o, file}, nil
}

// Close ends what is being written and closes the file; whatever is called
// afterwards is an ErrClosed. Closing twice does no harm.
func (db *DB) Close() error { return db.file.Close() }

// A conn is a connection, while a function of read or write has it.
type conn struct{ *sqlitedb.Conn }

// write makes a change, as [sqlitedb.DB.Write] has it.
func (db *DB) write(ctx context.Context, do func(conn) error) error {
	return db.file.Write(ctx, func(c *sqlitedb.Conn) error { return do(conn{c}) })
}

// read calls look with a connection that sees one state of the database.
func (db *DB) read(ctx context.Context, look func(conn) error) error {
	return db.file.Read(ctx, func(c *sqlitedb.Conn) error { return look(conn{c}) })
}
