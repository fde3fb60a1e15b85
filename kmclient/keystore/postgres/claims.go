package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// Claims have their own tables, since they are only names and stay forever: one for
// UUIDs in canonical spelling, one for all other IDs.

const (
	insertScope = `INSERT INTO scopes (km, sae) SELECT $1::bytea, $2::bytea
		WHERE NOT EXISTS (SELECT 1 FROM scopes WHERE km=$1 AND sae=$2) ON CONFLICT DO NOTHING`
	insertClaims = `WITH done AS (INSERT INTO claims (scope, id)
		SELECT s.n, c.id FROM scopes s, unnest($3::uuid[]) WITH ORDINALITY AS c(id, n) WHERE s.km=$1 AND s.sae=$2
		ORDER BY c.n ON CONFLICT DO NOTHING RETURNING 1) SELECT 1/(count(*)=$4)::int FROM done`
	insertOtherClaims = `WITH done AS (INSERT INTO other_claims (scope, id)
		SELECT s.n, c.id FROM scopes s, unnest($3::bytea[]) WITH ORDINALITY AS c(id, n) WHERE s.km=$1 AND s.sae=$2
		ORDER BY c.n ON CONFLICT DO NOTHING RETURNING 1) SELECT 1/(count(*)=$4)::int FROM done`
)

// planClaims makes up to three statements for the claims of each scope, in the order
// of the scopes.
func planClaims(names []engine.Name) (statements []statement) {
	slices.SortFunc(names, engine.Name.Compare)
	for len(names) > 0 {
		first := names[0]
		n := slices.IndexFunc(names, func(n engine.Name) bool { return n.KM != first.KM || n.SAE != first.SAE })
		if n < 0 {
			n = len(names)
		}
		var uuids [][16]byte
		var others [][]byte
		for _, n := range names[:n] {
			if u, ok := engine.UUID(n.ID); ok {
				uuids = append(uuids, u)
			} else {
				others = append(others, []byte(n.ID))
			}
		}
		km, sae := []byte(first.KM), []byte(first.SAE)
		statements = append(statements, statement{insertScope, []any{km, sae}, first})
		if len(others) > 0 {
			statements = append(statements, statement{insertOtherClaims, []any{km, sae, others, len(others)}, first})
		}
		if len(uuids) > 0 {
			statements = append(statements, statement{insertClaims, []any{km, sae, uuids, len(uuids)}, first})
		}
		names = names[n:]
	}
	return statements
}

// A scope is a KM and an SAE, with their number in the tables.
type scope struct {
	n       int32
	km, sae []byte
}

// listClaims returns the claims that follow a name, or all if it is nil, by KM and SAE;
// within these, UUIDs come after other IDs.
func listClaims(ctx context.Context, c *pgx.Conn, after *engine.Name, limit int) (records []*engine.Record, err error) {
	from := cmp.Or(after, &engine.Name{})
	rows, err := c.Query(ctx, "SELECT n, km, sae FROM scopes WHERE (km, sae) >= ($1, $2) ORDER BY km, sae", []byte(from.KM), []byte(from.SAE))
	if err != nil {
		return nil, err
	}
	scopes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s scope, err error) {
		return s, row.Scan(&s.n, &s.km, &s.sae)
	})
	for _, s := range scopes {
		if err != nil || len(records) == limit {
			break
		}
		id := (*string)(nil)
		if after != nil && after.KM == string(s.km) && after.SAE == string(s.sae) {
			id = &after.ID
		}
		var more []*engine.Record
		more, err = listScope(ctx, c, s, id, limit-len(records))
		records = append(records, more...)
	}
	return records, err
}

// listScope returns the claims of a scope that follow an ID, or all if it is nil.
func listScope(ctx context.Context, c *pgx.Conn, s scope, after *string, limit int) ([]*engine.Record, error) {
	n := engine.Name{Kind: engine.Claim, KM: string(s.km), SAE: string(s.sae)}
	other, u := []byte{}, uuid.UUID{} // the first that may follow
	isUUID, isLast := false, false
	if after != nil {
		if u, isUUID = engine.UUID(*after); isUUID {
			isLast = !increment(&u)
		} else {
			u, other = uuid.UUID{}, append([]byte(*after), 0)
		}
	}
	var records []*engine.Record
	if !isUUID {
		rows, err := c.Query(ctx, "SELECT id FROM other_claims WHERE scope=$1 AND id>=$2 ORDER BY id LIMIT $3", s.n, other, limit)
		if err != nil {
			return nil, err
		}
		var id []byte
		if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			n.ID = string(id)
			records = append(records, engine.NewClaim(n))
			return nil
		}); err != nil {
			return nil, err
		}
	}
	if isLast {
		return records, nil
	}
	rows, err := c.Query(ctx, "SELECT id FROM claims WHERE scope=$1 AND id>=$2 ORDER BY id LIMIT $3", s.n, [16]byte(u), limit-len(records))
	if err != nil {
		return nil, err
	}
	var id [16]byte
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		n.ID = uuid.UUID(id).String()
		records = append(records, engine.NewClaim(n))
		return nil
	})
	return records, err
}

// increment makes u the next UUID, and reports whether there is one.
func increment(u *uuid.UUID) bool {
	for i := len(u) - 1; i >= 0; i-- {
		if u[i]++; u[i] != 0 {
			return true
		}
	}
	return false
}
