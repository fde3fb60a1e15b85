package sqlite

import (
	"context"
	_ "embed" // for the schema
	"errors"
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sqlitedb"
)

//go:embed schema1.sql
var schema1 string

//go:embed schema2.sql
var schema2 string

//go:embed schema3.sql
var schema3 string

// format is the format of store files.
func format() sqlitedb.Format {
	return sqlitedb.Format{
		Application: 0x716B6473, // "qkds"
		Migrations:  []string{schema1, schema2, schema3},
	}
}

// Options configure an Engine. The zero value is ready to use.
type Options struct {
	Wait time.Duration // how long to wait for another process that holds the lock; 10 s if zero
}

// An Engine is a file of records. Its methods may be called from several
// goroutines at the same time.
type Engine struct{ file *sqlitedb.DB }

var _ engine.Engine = (*Engine)(nil)

// Open opens the file at path. If it does not exist, Open makes it (mode 0600) and its
// folders (0700). A file that is empty, not an SQLite database, another program's or of
// a later version is left as it is, and the error is kmclient.ErrStore.
func Open(ctx context.Context, path string, o Options) (*Engine, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: the key store needs a path", kmclient.ErrConfig)
	}
	file, err := sqlitedb.Open(ctx, path, format(), o.Wait)
	if err != nil {
		return nil, err
	}
	return &Engine{file}, nil
}

// Close finishes what is being written and closes the file. Closing twice does no
// harm.
func (e *Engine) Close() error { return e.file.Close() }

// Warnings returns nil: there is no server.
func (e *Engine) Warnings() []string { return nil }

// Limits bound what one Apply holds in memory: 4096 keys of a few hundred bytes, each
// with its claim, and the store's own record.
func (e *Engine) Limits() engine.Limits {
	return engine.Limits{Changes: 2*4096 + 1, Bytes: 16 << 20}
}

// Compact empties the write-ahead log, which holds overwritten data. While others are
// using it, the error is engine.ErrUncompacted.
func (e *Engine) Compact(ctx context.Context) error {
	err := e.file.Checkpoint(ctx)
	if errors.Is(err, sqlitedb.ErrInUse) {
		return fmt.Errorf("%w: %w", engine.ErrUncompacted, err)
	}
	return err
}

// Backup writes a copy of the file, as it is now, to a path where there is nothing. It
// writes the whole copy or none. The copy is sealed like the original.
func (e *Engine) Backup(ctx context.Context, path string) error { return e.file.Backup(ctx, path) }

// Check reads the whole file and reports whether it is sound. This takes a second or
// more per gigabyte.
func (e *Engine) Check(ctx context.Context) error { return e.file.Check(ctx) }
