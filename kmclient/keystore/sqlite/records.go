package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sqlitedb"
)

// Get returns records by their names.
func (e *Engine) Get(ctx context.Context, names ...engine.Name) ([]*engine.Record, error) {
	records := make([]*engine.Record, len(names))
	err := e.file.Read(ctx, func(c *sqlitedb.Conn) (err error) {
		for i, n := range names {
			get := getRecord
			if n.Kind == engine.Claim {
				get = getClaim
			}
			if records[i], err = get(c, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// getRecord returns a record, or nil if it is not there.
func getRecord(c *sqlitedb.Conn, n engine.Name) (*engine.Record, error) {
	r := &engine.Record{Name: n}
	var due int64
	err := c.Row([]any{&due, &r.Version, &r.Value},
		"SELECT due, version, value FROM records WHERE kind=? AND km=? AND sae=? AND id=?", string(n.Kind), n.KM, n.SAE, n.ID)
	switch {
	case errors.Is(err, sqlitedb.ErrNoRow):
		return nil, nil
	case err != nil:
		return nil, err
	}
	r.Due = engine.ToTime(due)
	return r, nil
}

// Apply makes changes, all or none.
func (e *Engine) Apply(ctx context.Context, changes ...engine.Change) error {
	return e.file.Write(ctx, func(c *sqlitedb.Conn) error {
		for _, ch := range changes {
			apply := changeRecord
			if ch.Name().Kind == engine.Claim {
				apply = addClaim
			}
			if err := apply(c, ch); err != nil {
				return err
			}
		}
		return nil
	})
}

// changeRecord makes a change, if the record is as it expects.
func changeRecord(c *sqlitedb.Conn, ch engine.Change) error {
	changed, err := tryChange(c, ch)
	if err == nil && !changed {
		err = fmt.Errorf("%w: %v", engine.ErrConflict, ch.Name())
	}
	return err
}

// tryChange makes a change in one statement, and reports whether the record was as
// expected.
func tryChange(c *sqlitedb.Conn, ch engine.Change) (bool, error) {
	r, n := ch.New, ch.Name()
	var rows int
	var err error
	switch {
	case r == ch.Old:
		err = c.Row([]any{&rows}, "SELECT 1 FROM records WHERE kind=? AND km=? AND sae=? AND id=? AND version=?",
			string(n.Kind), n.KM, n.SAE, n.ID, ch.Old.Version)
		if errors.Is(err, sqlitedb.ErrNoRow) {
			err = nil
		}
	case r == nil:
		rows, err = c.Change("DELETE FROM records WHERE kind=? AND km=? AND sae=? AND id=? AND version=?",
			string(n.Kind), n.KM, n.SAE, n.ID, ch.Old.Version)
	case ch.Old == nil:
		r.Version = engine.NewVersion()
		rows, err = c.Change("INSERT INTO records (kind, km, sae, id, due, version, value) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			string(n.Kind), n.KM, n.SAE, n.ID, engine.FromTime(r.Due), r.Version, engine.NotNull(r.Value))
	default:
		r.Version = engine.NewVersion()
		rows, err = c.Change("UPDATE records SET due=?, version=?, value=? WHERE kind=? AND km=? AND sae=? AND id=? AND version=?",
			engine.FromTime(r.Due), r.Version, engine.NotNull(r.Value), string(n.Kind), n.KM, n.SAE, n.ID, ch.Old.Version)
	}
	return rows == 1, err
}

// List returns the records that follow a name.
func (e *Engine) List(ctx context.Context, after engine.Name, limit int) (records []*engine.Record, err error) {
	const text = `SELECT kind, km, sae, id, due, version, value FROM records
		WHERE (kind, km, sae, id) > (?, ?, ?, ?) AND kind < ? ORDER BY kind, km, sae, id LIMIT ?`
	claims := engine.Name{Kind: engine.Claim} // the records before the claims, the claims, the records after them
	err = e.file.Read(ctx, func(c *sqlitedb.Conn) error {
		if after.Kind < claims.Kind {
			if records, err = query(c, text, string(after.Kind), after.KM, after.SAE, after.ID, string(claims.Kind), limit); err != nil || len(records) == limit {
				return err
			}
			after = claims
		}
		if after.Kind == claims.Kind {
			more, err := listClaims(c, after, limit-len(records))
			if records = append(records, more...); err != nil || len(records) == limit {
				return err
			}
		}
		more, err := query(c, text, string(after.Kind), after.KM, after.SAE, after.ID, "\U0010FFFF", limit-len(records))
		records = append(records, more...)
		return err
	})
	return records, err
}

// Due returns the records that are due, the earliest first.
func (e *Engine) Due(ctx context.Context, km, sae string, now time.Time, limit int) (records []*engine.Record, err error) {
	err = e.file.Read(ctx, func(c *sqlitedb.Conn) error {
		records, err = query(c, `SELECT kind, km, sae, id, due, version, value FROM records
			WHERE km=? AND sae=? AND due<>0 AND due<=? ORDER BY due LIMIT ?`, km, sae, now.Unix(), limit)
		return err
	})
	return records, err
}

func query(c *sqlitedb.Conn, text string, args ...any) (records []*engine.Record, err error) {
	err = c.Rows(func(scan sqlitedb.Scan) error {
		r := &engine.Record{}
		var due int64
		err := scan((*string)(&r.Kind), &r.KM, &r.SAE, &r.ID, &due, &r.Version, &r.Value)
		r.Due = engine.ToTime(due)
		records = append(records, r)
		return err
	}, text, args...)
	return records, err
}
