package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

const (
	defaultTimeout = 10 * time.Second
	lifetime       = time.Hour       // of a connection: DNS may name other servers later
	closeTimeout   = 2 * time.Second // to remove what the server knows about this process
)

// Options configure an Engine. Only URL is mandatory.
type Options struct {
	// URL has libpq's form,
	//
	//	postgres://USER@HOST:PORT,HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE
	//
	// In addition to libpq's parameters there are search_path, the schema of the store
	// instead of qkdmail, and pool_max_conns, the number of connections. What the URL
	// lacks comes from libpq's environment variables and password file. It must lead to
	// servers that take writes (target_session_attrs=read-write, the default here).
	URL string

	Connections int           // at most; if zero, as in the URL, or 16
	Timeout     time.Duration // for each call, including all attempts and the wait for a connection; 10 s if zero
}

// An Engine is a schema in a PostgreSQL database. Its methods may be called from
// several goroutines at the same time.
type Engine struct {
	*place
	timeout time.Duration
	pool    *pgxpool.Pool

	mu       sync.Mutex
	known    map[uuid.UUID]int64 // commits of each session, as far as seen; see session.go
	retired  map[uuid.UUID]bool  // sessions whose connection has ended
	warnings []string            // about the server of the latest connection

	closing sync.Once
	closed  atomic.Bool
}

var _ engine.Engine = (*Engine)(nil)

// Open connects to a server and returns once it has answered and can keep keys safely.
// If options are invalid, the error is kmclient.ErrConfig. If the server can't be
// reached within the time-out, takes no writes, loses data when its machine fails
// (fsync or full_page_writes off), or has no schema of this version, the error is
// kmclient.ErrStore.
func Open(ctx context.Context, o Options) (*Engine, error) {
	p, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Timeout < 0 || o.Connections < 0 || o.Connections > 1000 {
		return nil, fmt.Errorf("%w: PostgreSQL: a negative time-out, or not 0 to 1000 connections", kmclient.ErrConfig)
	}
	s := &Engine{place: p, timeout: o.Timeout, known: map[uuid.UUID]int64{}, retired: map[uuid.UUID]bool{}}
	if s.timeout == 0 {
		s.timeout = defaultTimeout
	}
	if o.Connections > 0 {
		p.config.MaxConns = int32(o.Connections)
	}
	p.within(s.timeout)
	p.config.MinConns, p.config.MinIdleConns = 0, 0 // so that Engine.attempt makes each connection
	p.config.MaxConnLifetime, p.config.MaxConnLifetimeJitter, p.config.MaxConnIdleTime = lifetime, lifetime/6, lifetime/6
	p.config.AfterConnect, p.config.BeforeClose = s.setUp, s.retire
	p.config.ConnConfig.DialFunc = dialNoCancel(p.config.ConnConfig.DialFunc)
	p.config.ConnConfig.OnNotice = noticeCancelled
	p.config.ConnConfig.ValidateConnect = s.notBehind(p.config.ConnConfig.ValidateConnect)
	if s.pool, err = pgxpool.NewWithConfig(context.Background(), p.config); err != nil { // this does not connect yet
		return nil, s.storeError(err)
	}
	if err := s.call(ctx, repeatable, probe); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// Warnings returns what is questionable about the server or the connection to it, in
// sentences for the administrator, as of the latest connection.
func (e *Engine) Warnings() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.warnings)
}

// Limits bound what one Apply holds in memory: 4096 keys of a few hundred bytes, each
// with its claim, and the store's own record.
func (e *Engine) Limits() engine.Limits {
	return engine.Limits{Changes: 2*4096 + 1, Bytes: 16 << 20}
}

// Check returns nil: use pg_amcheck to check the server's files.
func (e *Engine) Check(context.Context) error { return nil }

// Compact removes the rows of sessions of processes that ended without Close. A role
// that does not own the tables can do no more: the server itself removes overwritten
// and deleted data, as the package comment describes.
func (e *Engine) Compact(ctx context.Context) error {
	return e.call(ctx, repeatable, func(ctx context.Context, c *conn) error {
		_, err := c.Exec(ctx, "DELETE FROM sessions WHERE made < current_date - 30")
		return err
	})
}

// Close ends the connections. Closing twice does no harm.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.closed.Store(true)
		e.leave()
		e.pool.Close()
	})
	return nil
}
