package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// getRecords finds records and claims in one statement, and so at one moment: whoever
// sees a claim sees the record made with it. OFFSET 0 makes the server look up each
// name by an index; else it would read the whole table if its statistics make that look
// small.
const getRecords = `SELECT n.i, r.due, r.version, r.value
	FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS n(kind, km, sae, id, i),
	LATERAL (SELECT due, version, value FROM records WHERE kind=n.kind AND km=n.km AND sae=n.sae AND id=n.id OFFSET 0) r`

const getClaims = `
	UNION ALL SELECT n.i, 0, 1, ''
	FROM unnest($5::bytea[], $6::bytea[], $7::uuid[], $8::bigint[]) AS n(km, sae, id, i),
	LATERAL (SELECT FROM claims WHERE scope=(SELECT s.n FROM scopes s WHERE s.km=n.km AND s.sae=n.sae) AND id=n.id OFFSET 0) c
	UNION ALL SELECT n.i, 0, 1, ''
	FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS n(kind, km, sae, id, i),
	LATERAL (SELECT FROM other_claims WHERE scope=(SELECT s.n FROM scopes s WHERE s.km=n.km AND s.sae=n.sae) AND id=n.id OFFSET 0) c
	WHERE n.kind='claim'`

// Get returns records by their names.
func (e *Engine) Get(ctx context.Context, names ...engine.Name) ([]*engine.Record, error) {
	for _, n := range names {
		if err := n.Check(); err != nil {
			return nil, e.storeError(err)
		}
	}
	sql, args := getStatement(names)
	var records []*engine.Record
	err := e.call(ctx, repeatable, func(ctx context.Context, c *conn) error {
		records = make([]*engine.Record, len(names))
		rows, err := c.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		var i, due, version int64
		var value []byte
		_, err = pgx.ForEachRow(rows, []any{&i, &due, &version, &value}, func() error {
			records[i-1] = &engine.Record{Name: names[i-1], Due: engine.ToTime(due), Version: version, Value: value}
			value = nil // the next row's value is read into a new slice
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// getStatement returns the statement for some names, without claims if none is among
// them.
func getStatement(names []engine.Name) (sql string, args []any) {
	var parts [4][][]byte
	var kms, saes [][]byte
	var uuids [][16]byte
	var at []int64
	claims := false
	for i, n := range names {
		p := nameParts(n)
		for i, part := range p {
			parts[i] = append(parts[i], part)
		}
		if n.Kind != engine.Claim {
			continue
		}
		claims = true
		if u, ok := engine.UUID(n.ID); ok {
			kms, saes, uuids, at = append(kms, p[1]), append(saes, p[2]), append(uuids, u), append(at, int64(i+1))
		}
	}
	args = []any{parts[0], parts[1], parts[2], parts[3]}
	if !claims {
		return getRecords, args
	}
	return getRecords + getClaims, append(args, kms, saes, uuids, at)
}

// List returns the records that follow a name.
func (e *Engine) List(ctx context.Context, after engine.Name, limit int) ([]*engine.Record, error) {
	if err := after.Check(); err != nil {
		return nil, e.storeError(err)
	}
	var records []*engine.Record
	err := e.call(ctx, repeatable, func(ctx context.Context, c *conn) (err error) {
		records, err = list(ctx, c, after, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// afterAllKinds is greater than every kind.
var afterAllKinds = engine.Kind(strings.Repeat("\xFF", 256))

// list reads what is before the claims, the claims, and what is after them.
func list(ctx context.Context, c *conn, after engine.Name, limit int) (records []*engine.Record, err error) {
	const text = `SELECT kind, km, sae, id, due, version, value FROM records
		WHERE (kind, km, sae, id) > ($1, $2, $3, $4) AND kind < $5 ORDER BY kind, km, sae, id LIMIT $6`
	some := func(before engine.Kind) error {
		p := nameParts(after)
		more, err := query(ctx, c, text, p[0], p[1], p[2], p[3], []byte(before), limit-len(records))
		records = append(records, more...)
		return err
	}
	from := &after
	if after.Kind < engine.Claim {
		if err := some(engine.Claim); err != nil || len(records) == limit {
			return records, err
		}
		after, from = engine.Name{Kind: engine.Claim}, nil
	}
	if after.Kind == engine.Claim {
		more, err := listClaims(ctx, c.Conn, from, limit-len(records))
		if records = append(records, more...); err != nil || len(records) == limit {
			return records, err
		}
	}
	return records, some(afterAllKinds)
}

// Due returns the records that are due, the earliest first.
func (e *Engine) Due(ctx context.Context, km, sae string, now time.Time, limit int) ([]*engine.Record, error) {
	if err := (engine.Name{KM: km, SAE: sae}).Check(); err != nil {
		return nil, e.storeError(err)
	}
	var records []*engine.Record
	err := e.call(ctx, repeatable, func(ctx context.Context, c *conn) (err error) {
		records, err = query(ctx, c, `SELECT kind, km, sae, id, due, version, value FROM records
			WHERE km=$1 AND sae=$2 AND due<>0 AND due<=$3 ORDER BY due LIMIT $4`, []byte(km), []byte(sae), now.Unix(), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

func query(ctx context.Context, c *conn, text string, args ...any) ([]*engine.Record, error) {
	rows, err := c.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*engine.Record, error) {
		var kind, km, sae, id []byte
		var due int64
		r := &engine.Record{}
		err := row.Scan(&kind, &km, &sae, &id, &due, &r.Version, &r.Value)
		r.Name = engine.Name{Kind: engine.Kind(kind), KM: string(km), SAE: string(sae), ID: string(id)}
		r.Due = engine.ToTime(due)
		return r, err
	})
}
