package postgres

import (
	"context"
	_ "embed" // for the schema
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed schema1.sql
var schema1 string

// migrations take a schema from one version to the next.
func migrations() []string { return []string{schema1} }

// Init makes the schema that a URL names, or brings it to this version. The role must
// be allowed to make schemas in the database, or own the existing one. A schema of this
// version is left as it is; a later version is an error. Relays need other rights: see
// [Grants].
func Init(ctx context.Context, url string) error {
	p, err := parse(url)
	if err != nil {
		return err
	}
	p.within(defaultTimeout)
	s := &Engine{place: p}
	c, err := pgx.ConnectConfig(ctx, p.config.ConnConfig)
	if err != nil {
		return s.storeError(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	return s.storeError(pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return p.migrate(ctx, c) }))
}

// migrate is Init in a transaction.
func (p *place) migrate(ctx context.Context, c *pgx.Conn) error {
	run := func(sql string) error { return c.PgConn().Exec(ctx, sql).Close() }
	if err := run("SET LOCAL search_path TO " + p.quoted()); err != nil {
		return err
	}
	level, err := readLevel(ctx, c)
	if err != nil {
		return err
	}
	if level > len(migrations()) {
		return fmt.Errorf("the schema %q has a later version (%d, not %d)", p.schema, level, len(migrations()))
	}
	if level == 0 {
		err := run("CREATE SCHEMA IF NOT EXISTS " + p.quoted() + "; CREATE TABLE level (n integer NOT NULL); INSERT INTO level VALUES (0)")
		if err != nil {
			return err
		}
	}
	for i, sql := range migrations()[level:] {
		if err := run(sql + fmt.Sprintf("; UPDATE level SET n=%d", level+i+1)); err != nil {
			return err
		}
	}
	return nil
}

// readLevel returns the version of the schema in the search path, or 0 if there is
// none.
func readLevel(ctx context.Context, c *pgx.Conn) (level int, err error) {
	var there bool
	if err := c.QueryRow(ctx, "SELECT to_regclass('level') IS NOT NULL").Scan(&there); err != nil || !there {
		return 0, err
	}
	return level, c.QueryRow(ctx, "SELECT n FROM level").Scan(&level)
}

// Grants returns the SQL that gives a role the rights that a relay needs in the schema
// that a URL names, and no others: it can change neither the tables nor a claim.
func Grants(url, role string) (string, error) {
	p, err := parse(url)
	if err != nil {
		return "", err
	}
	to := " TO " + pgx.Identifier{role}.Sanitize() + ";\n"
	on := func(rights string, tables ...string) string {
		for i, t := range tables {
			tables[i] = p.quoted() + "." + t
		}
		return "GRANT " + rights + " ON " + strings.Join(tables, ", ") + to
	}
	return "GRANT USAGE ON SCHEMA " + p.quoted() + to +
		on("SELECT", "level") +
		on("SELECT, INSERT", "scopes", "claims", "other_claims") +
		on("SELECT, INSERT, UPDATE, DELETE", "records", "sessions"), nil
}
