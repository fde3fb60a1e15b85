package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Why a server is refused.
var (
	errFsync    = errors.New("the server runs with fsync=off, and would lose keys when its machine fails: switch fsync on, and make the database again or restore a backup if the machine has failed since")
	errPages    = errors.New("the server runs with full_page_writes=off, and a failure of its machine can damage what it has: switch full_page_writes on")
	errReadOnly = errors.New("the server takes no writes now: it is a standby, or transactions are read-only")
	errSplit    = errors.New("the server, or a pooler in front of it, does not run statements that are sent together as one transaction")
)

const (
	warnNoStandby = "no synchronous standby (synchronous_standby_names is empty): if the server is lost, so are its last commits, and keys that were used may seem unused"
	warnClearText = "the connection may be in clear text: set sslmode=verify-full and sslrootcert=FILE in the URL"
)

// settings are those that the statements here expect of a connection, as far as the
// server has them. Every statement finds its rows by an index, even if outdated
// statistics make the table look small.
const settings = `SELECT set_config(name, value, false) FROM (VALUES
	('search_path', $1), ('statement_timeout', $2), ('default_transaction_isolation', 'read committed'),
	('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('jit', 'off'), ('plan_cache_mode', 'force_generic_plan'),
	('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
	('synchronous_commit', CASE WHEN current_setting('synchronous_commit', true)='remote_apply' THEN 'remote_apply' ELSE 'on' END)
	) AS wanted(name, value) WHERE current_setting(name, true) IS NOT NULL`

// setUp prepares a new connection for use, or refuses it.
func (e *Engine) setUp(ctx context.Context, c *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout) // the pool's has none
	defer cancel()
	err := e.checkServer(ctx, c)
	if err == nil {
		_, err = c.Exec(ctx, settings, e.schema, strconv.FormatInt(e.timeout.Milliseconds(), 10))
	}
	if err == nil {
		err = e.checkLevel(ctx, c)
	}
	if err == nil {
		err = e.join(ctx, c)
	}
	if err != nil {
		cut(c)
	}
	return err
}

// checkServer refuses a server that may lose what it has acknowledged, or can't
// acknowledge anything.
func (e *Engine) checkServer(ctx context.Context, c *pgx.Conn) error {
	var fsync, pages, standbys, readOnly string
	var recovery bool
	err := c.QueryRow(ctx, `SELECT coalesce(current_setting('fsync', true), 'on'), coalesce(current_setting('full_page_writes', true), 'on'),
		coalesce(current_setting('synchronous_standby_names', true), 'none needed'), current_setting('transaction_read_only'),
		pg_is_in_recovery()`).Scan(&fsync, &pages, &standbys, &readOnly, &recovery)
	switch {
	case err != nil:
		return err
	case fsync == "off":
		return errFsync
	case pages == "off":
		return errPages
	case recovery || readOnly == "on":
		return errReadOnly
	}
	var warnings []string
	if standbys == "" {
		warnings = append(warnings, warnNoStandby)
	}
	if e.clearText {
		warnings = append(warnings, warnClearText)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.warnings = slices.Clip(warnings)
	return nil
}

// probe makes sure that statements sent together are one transaction: the first is
// rolled back if the second fails.
func probe(ctx context.Context, c *conn) error {
	id := [16]byte(uuid.New())
	b := &pgx.Batch{}
	b.Queue("INSERT INTO sessions (id, commits) VALUES ($1, 0)", id)
	b.Queue("SELECT 1/count(*) FROM sessions WHERE id IS NULL")
	if at, err := c.send(ctx, b); at != 1 || !hasCode(err, divisionByZero) {
		return cmp.Or(err, errSplit)
	}
	var n int
	err := c.QueryRow(ctx, "SELECT count(*) FROM sessions WHERE id=$1", id).Scan(&n)
	if err == nil && n > 0 {
		err = errSplit
	}
	return err
}

// dialKey marks the context of a call that may make connections.
type dialKey struct{}

var errNoCancel = errors.New("cancel requests are not sent")

// dialNoCancel returns a dialer that pgx can't use to cancel a request that it has
// given up on. A server that is waiting for its standby would stop waiting: others
// would see the commit, but it would be lost if the standby took over.
func dialNoCancel(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(dialKey{}) == nil {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
}

// noticeCancelled notes the server's notice that a commit's wait for the standby was
// cancelled: the commit is made, but may be lost with the server. The notice is
// recognised by the name of PostgreSQL's source file, which is the same in all
// languages.
func noticeCancelled(c *pgconn.PgConn, n *pgconn.Notice) {
	if s := sessionOf(c); s != nil && n.File == "syncrep.c" {
		s.cancelled = true
	}
}

// cut ends a connection at once. pgx would wait for the server's answer to the request
// under way.
func cut(c *pgx.Conn) { _ = c.PgConn().Conn().Close() }

// checkLevel refuses a server whose schema is missing or has another version.
func (e *Engine) checkLevel(ctx context.Context, c *pgx.Conn) error {
	level, err := readLevel(ctx, c)
	switch {
	case err != nil:
		return err
	case level == 0:
		return fmt.Errorf("the schema %q is not there, or the role may not use it: run qkdmail store init, as a role that may make schemas, and give the relay's role the rights that it prints", e.schema)
	case level < len(migrations()):
		return fmt.Errorf("the schema %q has an older version (%d, not %d): run qkdmail store init", e.schema, level, len(migrations()))
	case level > len(migrations()):
		return fmt.Errorf("the schema %q has a later version (%d, not %d): use the program that made it", e.schema, level, len(migrations()))
	}
	return nil
}
