package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// Limits: the size of a transaction costs memory only, of which these are a
// few.
func (s *Store) Limits() keystore.Limits { return keystore.Limits{Changes: 4096, Octets: 16 << 20} }

// Commits returns how many commits were made since the file was opened, each
// with its fsync.
func (s *Store) Commits() int64 { return s.commits.Load() }

// Get returns records by their names.
func (s *Store) Get(ctx context.Context, names ...keystore.Name) ([]*keystore.Record, error) {
	records := make([]*keystore.Record, len(names))
	err := s.read(ctx, func(c *conn) error {
		for i, n := range names {
			r := &keystore.Record{Name: n}
			var due int64
			err := c.row([]any{&due, &r.Version, &r.Value},
				"SELECT due, version, value FROM records WHERE kind=? AND km=? AND sae=? AND id=?", n.Kind, n.KM, n.SAE, n.ID)
			switch {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return err
			default:
				r.Due = fromUnix(due)
				records[i] = r
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	return records, nil
}

// Apply makes changes, all or none.
func (s *Store) Apply(ctx context.Context, changes ...keystore.Change) error {
	return s.storeError(s.write(ctx, &job{do: func(c *conn) error {
		seqs := make([]int64, len(changes))
		for i, ch := range changes { // all are checked before the first is made
			var err error
			if seqs[i], err = c.check(ch); err != nil {
				return err
			}
		}
		for i, ch := range changes {
			if err := c.change(ch, seqs[i]); err != nil {
				return err
			}
		}
		return nil
	}}))
}

// check reports whether a record is as a change expects, and returns its row.
func (c *conn) check(ch keystore.Change) (seq int64, err error) {
	n := ch.Name()
	var version int64
	err = c.row([]any{&seq, &version}, "SELECT seq, version FROM records WHERE kind=? AND km=? AND sae=? AND id=?",
		n.Kind, n.KM, n.SAE, n.ID)
	absent := errors.Is(err, sql.ErrNoRows)
	switch {
	case err != nil && !absent:
		return 0, err
	case absent != (ch.Old == nil), !absent && version != ch.Old.Version:
		return 0, fmt.Errorf("%w: %v", keystore.ErrConflict, n)
	}
	return seq, nil
}

func (c *conn) change(ch keystore.Change, seq int64) error {
	version := 1 + rand.Int64N(1<<62)
	switch r := ch.New; {
	case r == ch.Old:
		return nil
	case r == nil:
		return c.exec("DELETE FROM records WHERE seq=?", seq)
	case ch.Old == nil:
		return c.exec("INSERT INTO records (kind, km, sae, id, due, version, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
			r.Kind, r.KM, r.SAE, r.ID, toUnix(r.Due), version, octets(r.Value))
	default:
		return c.exec("UPDATE records SET due=?, version=?, value=? WHERE seq=?", toUnix(r.Due), version, octets(r.Value), seq)
	}
}

// octets never is nil, which would be NULL.
func octets(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(due int64) time.Time {
	if due == 0 {
		return time.Time{}
	}
	return time.Unix(due, 0)
}

// List returns the records that follow a name.
func (s *Store) List(ctx context.Context, after keystore.Name, limit int) ([]*keystore.Record, error) {
	return s.query(ctx, `SELECT kind, km, sae, id, due, version, value FROM records
		WHERE (kind, km, sae, id) > (?, ?, ?, ?) ORDER BY kind, km, sae, id LIMIT ?`,
		after.Kind, after.KM, after.SAE, after.ID, limit)
}

// Due returns the records that are due, the earliest first.
func (s *Store) Due(ctx context.Context, km, sae string, now time.Time, limit int) ([]*keystore.Record, error) {
	return s.query(ctx, `SELECT kind, km, sae, id, due, version, value FROM records
		WHERE km=? AND sae=? AND due<>0 AND due<=? ORDER BY due LIMIT ?`, km, sae, now.Unix(), limit)
}

func (s *Store) query(ctx context.Context, text string, args ...any) (records []*keystore.Record, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(func(rows *sql.Rows) error {
			r := &keystore.Record{}
			var due int64
			err := rows.Scan(&r.Kind, &r.KM, &r.SAE, &r.ID, &due, &r.Version, &r.Value)
			r.Due = fromUnix(due)
			records = append(records, r)
			return err
		}, text, args...)
	})
	return records, s.storeError(err)
}

// Compact empties the write-ahead log, which holds what was overwritten, unless
// another process is just reading it; then the next call does.
func (s *Store) Compact(ctx context.Context) error {
	return s.storeError(s.write(ctx, &job{alone: true, do: func(c *conn) error {
		var busy, log, done int64
		err := c.row([]any{&busy, &log, &done}, "PRAGMA wal_checkpoint(TRUNCATE)")
		if isBusy(err) {
			return nil
		}
		return err
	}}))
}

// Backup writes a copy of the file, as it is now, to a path where there is
// none. What is in it is sealed as it is here.
func (s *Store) Backup(ctx context.Context, path string) error {
	err := createFile(path)
	if err == nil {
		err = s.read(ctx, func(c *conn) error { return c.exec("VACUUM INTO ?", path) })
	}
	if err == nil {
		err = syncFile(path)
	}
	return s.storeError(err)
}

// Check reads the whole file and reports whether it is sound. That takes a
// second or more for each gigabyte.
func (s *Store) Check(ctx context.Context) error {
	return s.storeError(s.read(ctx, func(c *conn) error {
		var result string
		if err := c.row([]any{&result}, "PRAGMA integrity_check(1)"); err != nil || result == "ok" {
			return err
		}
		return fmt.Errorf("it is damaged; leave it as it is and restore a backup beside it: %q", result)
	}))
}
