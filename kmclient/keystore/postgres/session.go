package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session is one connection of this process. Its row in the table sessions counts its
// commits: each Apply adds 1 in its own transaction, if the number is what this process
// knows. So a server that lacks a commit that the Engine has seen does not go
// unnoticed: it must have all known commits of all sessions when a connection is made,
// or it is refused.
//
// The row is made with the first commit. From then on it also represents the sessions
// that had ended before the connection was made, since the server had their commits
// then: those sessions are forgotten, and their rows removed.
type session struct {
	id      uuid.UUID
	commits int64
	covers  []uuid.UUID // sessions that its first commit represents
	remove  []uuid.UUID // sessions that nobody asks for any more

	cancelled bool // the server has not waited for its standby: see noticeCancelled
}

const sessionKey = "session" // in the custom data of a connection

func sessionOf(c *pgconn.PgConn) *session {
	s, _ := c.CustomData()[sessionKey].(*session)
	return s
}

var errBehind = errors.New("the PostgreSQL server was restored from a backup, or became the primary without the last commits that the former one had acknowledged: keys that are used up may seem unused there; start the relays again once it is as it should be")

// join starts the session of a new connection, if its server has all known commits.
func (e *Engine) join(ctx context.Context, c *pgx.Conn) error {
	for {
		known, retired := e.sessions()
		lost, err := lostSessions(ctx, c, known)
		if err != nil {
			return err
		}
		if len(lost) == 0 {
			if err := keepSessions(ctx, c, known); err != nil {
				return err
			}
			c.PgConn().CustomData()[sessionKey] = &session{id: uuid.New(), covers: retired}
			return nil
		}
		if e.knows(lost) {
			return errBehind
		}
		// Another session has come to represent them.
	}
}

// notBehind returns a check for a server that is tried: the check that the URL's
// parameters ask for, and whether the server has all known commits. If it fails, the
// next server is tried: a primary that was taken for dead may come back, not knowing
// that another has taken over, and take writes too.
func (e *Engine) notBehind(check pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if check != nil {
			if err := check(ctx, c); err != nil {
				return err
			}
		}
		known, _ := e.sessions()
		lost, err := e.lostThere(ctx, c, known)
		if err == nil && e.knows(lost) {
			err = errBehind
		}
		return err
	}
}

// lostThere is lostSessions before pgx knows the connection.
func (e *Engine) lostThere(ctx context.Context, c *pgconn.PgConn, known map[uuid.UUID]int64) (lost []uuid.UUID, err error) {
	if len(known) == 0 {
		return nil, nil
	}
	var ids []string
	for id := range known {
		ids = append(ids, id.String())
	}
	r := c.ExecParams(ctx, "SELECT id, commits FROM "+e.quoted()+".sessions WHERE id=ANY($1::uuid[])",
		[][]byte{[]byte("{" + strings.Join(ids, ",") + "}")}, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	for _, row := range r.Rows {
		id, idErr := uuid.ParseBytes(row[0])
		commits, err := strconv.ParseInt(string(row[1]), 10, 64)
		if err := errors.Join(idErr, err); err != nil {
			return nil, err
		}
		if commits >= known[id] {
			delete(known, id)
		}
	}
	return slices.Collect(maps.Keys(known)), nil
}

// sessions returns the known commits of all sessions, and which of them have ended.
func (e *Engine) sessions() (known map[uuid.UUID]int64, retired []uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.known), slices.Collect(maps.Keys(e.retired))
}

// knows reports whether one of the sessions has not been forgotten.
func (e *Engine) knows(ids []uuid.UUID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(ids, func(id uuid.UUID) bool { _, found := e.known[id]; return found })
}

// lostSessions returns the sessions with known commits that the server lacks.
func lostSessions(ctx context.Context, c *pgx.Conn, known map[uuid.UUID]int64) (lost []uuid.UUID, err error) {
	if len(known) == 0 {
		return nil, nil
	}
	there := map[uuid.UUID]int64{}
	rows, err := c.Query(ctx, "SELECT id, commits FROM sessions WHERE id=ANY($1)", keys(known))
	if err != nil {
		return nil, err
	}
	var id [16]byte
	var commits int64
	_, err = pgx.ForEachRow(rows, []any{&id, &commits}, func() error {
		there[id] = commits
		return nil
	})
	for id, commits := range known {
		if there[id] < commits {
			lost = append(lost, id)
		}
	}
	return lost, err
}

// keepSessions refreshes the rows of sessions, since Compact removes them when they are
// a month old. A live process makes connections more often than that.
func keepSessions(ctx context.Context, c *pgx.Conn, known map[uuid.UUID]int64) error {
	if len(known) == 0 {
		return nil
	}
	_, err := c.Exec(ctx, `UPDATE sessions SET made=current_date WHERE id IN
		(SELECT id FROM sessions WHERE id=ANY($1) AND made < current_date - 7 FOR UPDATE SKIP LOCKED)`, keys(known))
	return err
}

// keys returns the IDs of sessions as pgx takes them.
func keys(known map[uuid.UUID]int64) [][16]byte { return arrays(slices.Collect(maps.Keys(known))) }

// arrays returns IDs as pgx takes them.
func arrays(ids []uuid.UUID) [][16]byte {
	all := make([][16]byte, len(ids))
	for i, id := range ids {
		all[i] = id
	}
	return all
}

// count queues the statement that counts the commit of a session, which must be the
// first.
func (n *session) count(b *pgx.Batch) {
	if n.commits == 0 {
		b.Queue("INSERT INTO sessions (id, commits) VALUES ($1, 1)", [16]byte(n.id))
	} else {
		b.Queue("WITH done AS (UPDATE sessions SET commits=commits+1 WHERE id=$1 AND commits=$2 RETURNING 1) SELECT 1/count(*) FROM done",
			[16]byte(n.id), n.commits)
	}
	if len(n.remove) > 0 { // a locked row belongs to a transaction whose outcome is still open
		b.Queue("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE id=ANY($1) FOR UPDATE SKIP LOCKED)", arrays(n.remove))
	}
}

// committed records that the session made a commit.
func (e *Engine) committed(n *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n.commits++
	e.known[n.id] = n.commits
	n.remove = n.covers
	for _, id := range n.covers {
		delete(e.known, id)
		delete(e.retired, id)
	}
	n.covers = nil
}

// retire is called before a connection ends.
func (e *Engine) retire(c *pgx.Conn) {
	n := sessionOf(c.PgConn())
	e.mu.Lock()
	defer e.mu.Unlock()
	if n != nil && n.commits > 0 {
		e.retired[n.id] = true
	}
}

// leave removes the rows of this process, if a connection is idle.
func (e *Engine) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	known, _ := e.sessions()
	for i, c := range e.pool.AcquireAllIdle(ctx) {
		if i == 0 && len(known) > 0 {
			_, _ = c.Exec(ctx, "DELETE FROM sessions WHERE id=ANY($1)", keys(known))
		}
		c.Release()
	}
}
