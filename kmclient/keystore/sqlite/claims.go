package sqlite

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sqlitedb"
)

// Claims have their own table, in which each takes about 25 bytes: they are only names,
// and stay forever.

// packID returns an ID as it is in the table, a UUID as its 16 bytes. SQLite never
// takes text for a blob, so no two IDs are the same there.
func packID(id string) any {
	if u, ok := engine.UUID(id); ok {
		return u[:]
	}
	return id
}

func unpackID(packed any) (string, error) {
	switch p := packed.(type) {
	case string:
		return p, nil
	case []byte:
		if u, err := uuid.FromBytes(p); err == nil {
			return u.String(), nil
		}
	}
	return "", fmt.Errorf("%w: a key ID of an unknown form", sqlitedb.ErrDamaged)
}

// addClaim makes a claim, the only change that a claim allows.
func addClaim(c *sqlitedb.Conn, ch engine.Change) error {
	if err := engine.CheckClaim(ch); err != nil {
		return err
	}
	n := ch.New.Name
	for range 2 { // the second time with the scope, if that was missing
		added, err := c.Change("INSERT INTO claims (scope, id) SELECT n, ? FROM scopes WHERE km=? AND sae=? ON CONFLICT DO NOTHING",
			packID(n.ID), n.KM, n.SAE)
		if err != nil || added == 1 {
			return err
		}
		made, err := c.Change("INSERT INTO scopes (km, sae) VALUES (?, ?) ON CONFLICT DO NOTHING", n.KM, n.SAE)
		if err != nil {
			return err
		}
		if made == 0 {
			break
		}
	}
	return fmt.Errorf("%w: %v", engine.ErrConflict, n)
}

// getClaim returns a claim, or nil if it is not there.
func getClaim(c *sqlitedb.Conn, n engine.Name) (*engine.Record, error) {
	var one int
	err := c.Row([]any{&one}, "SELECT 1 FROM claims WHERE id=? AND scope=(SELECT n FROM scopes WHERE km=? AND sae=?)", packID(n.ID), n.KM, n.SAE)
	switch {
	case errors.Is(err, sqlitedb.ErrNoRow):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return engine.NewClaim(n), nil
}

// listClaims returns the claims that follow a name, by KM and SAE; within these, UUIDs
// come after other IDs.
func listClaims(c *sqlitedb.Conn, after engine.Name, limit int) (records []*engine.Record, err error) {
	var scopes []engine.Name
	var numbers []int64
	err = c.Rows(func(scan sqlitedb.Scan) error {
		n := engine.Name{Kind: engine.Claim}
		var number int64
		err := scan(&number, &n.KM, &n.SAE)
		scopes, numbers = append(scopes, n), append(numbers, number)
		return err
	}, "SELECT n, km, sae FROM scopes WHERE (km, sae) >= (?, ?) ORDER BY km, sae", after.KM, after.SAE)
	for i, n := range scopes {
		if err != nil || len(records) == limit {
			break
		}
		var from any = -1 // before every text
		if n.KM == after.KM && n.SAE == after.SAE {
			from = packID(after.ID)
		}
		err = c.Rows(func(scan sqlitedb.Scan) error {
			var packed any
			err := scan(&packed)
			if err == nil {
				n.ID, err = unpackID(packed)
			}
			records = append(records, engine.NewClaim(n))
			return err
		}, "SELECT id FROM claims WHERE scope=? AND id>? ORDER BY id LIMIT ?", numbers[i], from, limit-len(records))
	}
	return records, err
}
