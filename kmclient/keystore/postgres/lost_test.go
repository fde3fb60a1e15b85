package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// calls are the requests to an engine.
func calls(t *testing.T) map[string]func(engine.Engine) error {
	return map[string]func(engine.Engine) error{
		"Apply":   func(s engine.Engine) error { return s.Apply(t.Context(), engine.Change{New: record("new", "v")}) },
		"Get":     func(s engine.Engine) error { return second(s.Get(t.Context(), name("key"))) },
		"List":    func(s engine.Engine) error { return second(s.List(t.Context(), engine.Name{}, 10)) },
		"Due":     func(s engine.Engine) error { return second(s.Due(t.Context(), "km", "sae", time.Now(), 10)) },
		"Compact": func(s engine.Engine) error { return s.Compact(t.Context()) },
	}
}

func second[T any](_ T, err error) error { return err }

// wantBehind wants every call to be refused, with the reason. The first call may only
// notice that its connection is gone.
func wantBehind(t *testing.T, s engine.Engine, first func(engine.Engine) error) {
	t.Helper()
	if err := first(s); err == nil || !strings.Contains(err.Error(), "connection") {
		wantRefused(t, err, "without the last commits")
	}
	for range 2 {
		for what, call := range calls(t) {
			if err := call(s); err == nil {
				t.Errorf("%s works, want it refused", what)
			} else {
				wantRefused(t, err, "restored from a backup")
			}
		}
	}
}

// A standby without the last commits takes over: a process that has seen them refuses
// it, whatever its first request is.
func TestPromotedBehind(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	standby := primary.Follow("standby")
	url := newSchema(t, primary, standby)
	stores := map[string]*postgres.Engine{}
	for what := range calls(t) {
		stores[what] = openEngine(t, url)
		put(t, stores[what], "first-"+what)
	}
	idle := openEngine(t, url)
	primary.Wait("SELECT count(*)=1 AND bool_and(replay_lsn=pg_current_wal_lsn()) FROM pg_stat_replication")
	standby.Stop()
	for what, s := range stores {
		put(t, s, "last-"+what)
	}
	primary.Kill()
	standby.Restart()
	standby.Promote()
	for what, call := range calls(t) {
		wantBehind(t, stores[what], call)
	}
	retry(t, func() error { return apply(idle, "seen") }) // it has seen none of the lost commits
	if s := openEngine(t, url); get(t, s, "first-Get") == nil || get(t, s, "last-Get") != nil {
		t.Error("the standby has the last commits: this proves nothing")
	}
}

// The server is restored from a copy of its files, made before the first commit of a
// connection, or before a later one.
func TestRestored(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := newSchema(t, server)
	early := openEngine(t, url)
	put(t, early, "a")
	snapshot := server.Snapshot()
	server.Restart()
	retry(t, func() error { return second(early.Get(t.Context(), name("a"))) })
	put(t, early, "b") // on a new connection, which also represents the first one
	late := openEngine(t, url)
	put(t, late, "c")
	server.Restore(snapshot)
	server.Restart()
	wantBehind(t, early, calls(t)["Apply"])
	wantBehind(t, late, calls(t)["Get"])

	now := openEngine(t, url)
	put(t, now, "d")
	server.Kill()
	server.Restart()
	retry(t, func() error { return apply(now, "e") })
	if get(t, now, "d") == nil {
		t.Error("a crash lost a commit")
	}
}

// retry repeats do, which may fail while a server starts.
func retry(t *testing.T, do func() error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// The next Apply notices a connection that suddenly leads to another server, as through
// a pooler, and changes nothing.
func TestSwitched(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	s := openWith(t, postgres.Options{URL: url, Connections: 1})
	put(t, s, "a")
	put(t, s, "b")
	server.Exec(fmt.Sprintf("UPDATE test%d.sessions SET commits=1", schemas.Load()))
	wantBehind(t, s, func(s engine.Engine) error { return apply(s, "c") })
	if get(t, openEngine(t, url), "c") != nil {
		t.Error("a change was made")
	}
}

// A standby that has every commit takes over, and the relays go on.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.StartPair(t)
	url := newSchema(t, primary, standby)
	s, other := openEngine(t, url), openEngine(t, url)
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %q", w)
	}
	for i := range 20 {
		put(t, s, fmt.Sprint("s", i))
		put(t, other, fmt.Sprint("o", i))
	}
	primary.Kill()
	standby.Promote()
	retry(t, func() error { return second(s.Get(t.Context(), name("s0"))) })
	put(t, s, "after")
	for i := range 20 {
		if get(t, s, fmt.Sprint("o", i)) == nil || get(t, other, fmt.Sprint("s", i)) == nil {
			t.Errorf("commit %d is lost", i)
		}
	}
	if w := s.Warnings(); len(w) != 1 {
		t.Errorf("warnings without a standby: %q", w)
	}
}

// Rows of sessions don't pile up: those of ended connections are removed with the next
// commits, the rest when the store is closed.
func TestSessions(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	s := openEngine(t, url)
	count := func(want string) {
		t.Helper()
		if got := server.Query(fmt.Sprintf("SELECT count(*) FROM test%d.sessions", schemas.Load())); got != want {
			t.Errorf("%s sessions, want %s", got, want)
		}
	}
	count("0")
	for i := range 5 {
		put(t, s, fmt.Sprint("a", i))
		put(t, s, fmt.Sprint("b", i))
		count("1")
		server.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='qkdmail'")
		retry(t, func() error { return second(s.Get(t.Context(), name("a"))) })
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	count("0")
}

// The old primary comes back, not knowing that another server has taken over: it takes
// writes, and is first in the URL. A process that has seen later commits skips it.
func TestOldPrimaryReturns(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.StartPair(t)
	url := newSchema(t, primary, standby)
	s := openEngine(t, url)
	put(t, s, "before")
	primary.Kill()
	standby.Promote()
	retry(t, func() error { return second(s.Get(t.Context(), name("before"))) })
	put(t, s, "after")
	primary.Restart()
	for range 3 {
		standby.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='qkdmail'")
		retry(t, func() error { return second(s.Get(t.Context(), name("after"))) })
		if get(t, s, "after") == nil {
			t.Fatal("the old primary was asked")
		}
		put(t, s, uuid.NewString())
	}
	standby.Kill() // only the old one is left
	wantBehind(t, s, calls(t)["Get"])
}

// Rows of sessions that nobody needs are removed after a month; those of a live process
// stay.
func TestOldSessions(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	s, other := openEngine(t, url), openEngine(t, url)
	put(t, s, "a")
	sessions := schemaName() + ".sessions"
	server.Exec("UPDATE " + sessions + " SET made=current_date-20; INSERT INTO " + sessions + " VALUES (gen_random_uuid(), 7, current_date-31)")
	server.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='qkdmail'")
	retry(t, func() error { return second(s.Get(t.Context(), name("a"))) })
	if got := server.Query("SELECT count(*) FROM " + sessions + " WHERE made=current_date"); got != "1" {
		t.Errorf("%s rows were kept, want 1", got)
	}
	if err := other.Compact(t.Context()); err != nil {
		t.Error(err)
	}
	if got := server.Query("SELECT count(*) FROM " + sessions); got != "1" {
		t.Errorf("%s rows are left, want 1", got)
	}
	put(t, s, "b")
}
