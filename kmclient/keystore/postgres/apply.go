package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// A statement makes some changes. It fails with a division by zero if one of their
// records is not as expected: that is plain SQL, and rolls back the whole transaction
// at once.
type statement struct {
	sql  string
	args []any
	name engine.Name // of the first change
}

const (
	insertRecords = `WITH done AS (INSERT INTO records (kind, km, sae, id, due, version, value)
		SELECT kind, km, sae, id, due, version, value
		FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bytea[])
			WITH ORDINALITY AS c(kind, km, sae, id, due, version, value, n)
		ORDER BY n ON CONFLICT DO NOTHING RETURNING 1) SELECT 1/(count(*)=$8)::int FROM done`
	updateRecord = `WITH done AS (UPDATE records SET due=$1, version=$2, value=$3
		WHERE kind=$4 AND km=$5 AND sae=$6 AND id=$7 AND version=$8 RETURNING 1) SELECT 1/count(*) FROM done`
	deleteRecord = `WITH done AS (DELETE FROM records
		WHERE kind=$1 AND km=$2 AND sae=$3 AND id=$4 AND version=$5 RETURNING 1) SELECT 1/count(*) FROM done`
	checkRecord = `WITH held AS (SELECT 1 FROM records
		WHERE kind=$1 AND km=$2 AND sae=$3 AND id=$4 AND version=$5 FOR SHARE) SELECT 1/count(*) FROM held`
)

// Apply makes changes, all or none.
func (e *Engine) Apply(ctx context.Context, changes ...engine.Change) error {
	statements, err := plan(changes)
	if err != nil {
		return fmt.Errorf("%s: %w", e.where, err)
	}
	return e.call(ctx, once, func(ctx context.Context, c *conn) error { return e.apply(ctx, c, statements) })
}

// apply makes one transaction, in one round trip once the server knows the statements.
// There is no BEGIN: everything before the protocol's Sync is one transaction.
func (e *Engine) apply(ctx context.Context, c *conn, statements []statement) error {
	b := &pgx.Batch{}
	c.session.count(b)
	first := b.Len()
	for _, st := range statements {
		b.Queue(st.sql, st.args...)
	}
	at, err := c.send(ctx, b)
	switch {
	case err == nil && c.session.cancelled:
		return errCancelled
	case err == nil:
		e.committed(c.session)
		return nil
	case !hasCode(err, divisionByZero):
		return err
	case at == 0: // the session has another count: another server answered
		return errBehind
	}
	return fmt.Errorf("%w: %v", engine.ErrConflict, statements[at-first].name)
}

// plan returns the statements for some changes. All calls of Apply take the locks in
// the same order, so that no two of them wait for each other: claims first, then
// records, sorted by name.
func plan(changes []engine.Change) (statements []statement, err error) {
	var claims []engine.Name
	var records []engine.Change
	for _, ch := range changes {
		if err := ch.Name().Check(); err != nil {
			return nil, err
		}
		if ch.Name().Kind != engine.Claim {
			records = append(records, ch)
			continue
		}
		if err := engine.CheckClaim(ch); err != nil {
			return nil, err
		}
		claims = append(claims, ch.New.Name)
	}
	slices.SortFunc(records, func(a, b engine.Change) int { return a.Name().Compare(b.Name()) })
	return append(planClaims(claims), planRecords(records)...), nil
}

// planRecords makes one statement for each run of new records, and one for every other
// change.
func planRecords(records []engine.Change) (statements []statement) {
	for len(records) > 0 {
		n := 0
		for n < len(records) && records[n].Old == nil {
			n++
		}
		if n > 0 {
			statements = append(statements, insertStatement(records[:n]))
		} else {
			statements = append(statements, changeStatement(records[0]))
			n = 1
		}
		records = records[n:]
	}
	return statements
}

func insertStatement(changes []engine.Change) statement {
	var parts [4][][]byte
	var dues, versions []int64
	var values [][]byte
	for _, ch := range changes {
		r := ch.New
		r.Version = engine.NewVersion()
		for i, part := range nameParts(r.Name) {
			parts[i] = append(parts[i], part)
		}
		dues, versions, values = append(dues, engine.FromTime(r.Due)), append(versions, r.Version), append(values, engine.NotNull(r.Value))
	}
	return statement{insertRecords, []any{parts[0], parts[1], parts[2], parts[3], dues, versions, values, len(changes)}, changes[0].Name()}
}

func changeStatement(ch engine.Change) statement {
	r, n := ch.New, ch.Name()
	p := nameParts(n)
	old := []any{p[0], p[1], p[2], p[3], ch.Old.Version}
	switch r {
	case ch.Old:
		return statement{checkRecord, old, n}
	case nil:
		return statement{deleteRecord, old, n}
	}
	r.Version = engine.NewVersion()
	return statement{updateRecord, append([]any{engine.FromTime(r.Due), r.Version, engine.NotNull(r.Value)}, old...), n}
}

// nameParts returns the parts of a name as columns.
func nameParts(n engine.Name) [4][]byte {
	return [4][]byte{[]byte(n.Kind), []byte(n.KM), []byte(n.SAE), []byte(n.ID)}
}
