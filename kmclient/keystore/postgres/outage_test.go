package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

const short = time.Second // for calls that fail

// apply makes a new record.
func apply(s engine.Engine, id string) error {
	return s.Apply(context.Background(), engine.Change{New: record(id, "v")})
}

// The server is stopped, crashes, and starts again.
func TestDown(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	s := openWith(t, postgres.Options{URL: newSchema(t, server), Timeout: short})
	put(t, s, "a")
	key := name("a")
	for name, end := range map[string]func(){"stopped": server.Stop, "crashed": server.Kill} {
		end()
		wantRefused(t, second(s.Get(t.Context(), key)), "no server can be reached")
		wantRefused(t, apply(s, name), "no server can be reached")
		server.Restart()
		put(t, s, "after "+name)
		if get(t, s, name) != nil || get(t, s, "a") == nil {
			t.Errorf("%s: the records are not as they were", name)
		}
	}
	_, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(), Timeout: short})
	wantRefused(t, err, "qkdmail store init")
}

// All connections are ended, or requests that wait for a lock are cancelled.
func TestCancelled(t *testing.T) {
	server := shared(t)
	s := openEngine(t, newSchema(t, server))
	put(t, s, "a")
	server.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='qkdmail'")
	if get(t, s, "a") == nil {
		t.Error("the record is not there")
	}
	server.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='qkdmail'")
	if err := apply(s, "b"); err != nil {
		wantRefused(t, err, "connection")
	}
	put(t, s, "c")

	release := lock(t, server)
	defer release()
	done := make(chan error, 1)
	go func() { done <- apply(s, "d") }()
	server.Wait("SELECT count(pg_cancel_backend(pid))>0 FROM pg_stat_activity WHERE application_name='qkdmail' AND wait_event_type='Lock'")
	wantRefused(t, <-done, "was cancelled there")
	release()
	put(t, s, "d")
}

// lock locks the records of the newest schema, as a careless administrator may.
func lock(t *testing.T, server *pgtest.Server) (release func()) {
	t.Helper()
	return server.Hold("LOCK TABLE " + schemaName() + ".records")
}

// A call that waits too long is given up, and others go on.
func TestLocked(t *testing.T) {
	server := shared(t)
	s := openWith(t, postgres.Options{URL: newSchema(t, server), Timeout: short})
	release := lock(t, server)
	defer release()
	start := time.Now()
	wantRefused(t, apply(s, "a"), "")
	if took := time.Since(start); took > 3*short {
		t.Errorf("the call took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), short/4)
	defer cancel()
	err := s.Apply(ctx, engine.Change{New: record("b", "v")})
	if !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an ErrUnavailable", err)
	}
	release()
	put(t, s, "c")
}

// All connections are in use.
func TestBusyPool(t *testing.T) {
	server := shared(t)
	s := openWith(t, postgres.Options{URL: newSchema(t, server), Timeout: short, Connections: 2})
	release := lock(t, server)
	defer release()
	done := make(chan error)
	for _, id := range []string{"a", "b", "c", "d"} {
		go func() { done <- apply(s, id) }()
	}
	for range 4 {
		wantRefused(t, <-done, "")
	}
	release()
	retry(t, func() error { return apply(s, "e") })
}

// The server becomes read-only, as when another takes over.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	s := openWith(t, postgres.Options{URL: newSchema(t, server), Timeout: short})
	put(t, s, "a")
	server.Set("default_transaction_read_only", "on")
	wantRefused(t, apply(s, "b"), "takes")
	wantRefused(t, second(s.Get(t.Context(), name("a"))), "takes writes")
	server.Set("default_transaction_read_only", "off")
	put(t, s, "c")
	if get(t, s, "b") != nil {
		t.Error("the record was written")
	}
}

// A standby alone is refused, and waited for.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	url := newSchema(t, primary)
	standby := primary.Follow("standby")
	url = strings.Replace(url, primary.Address(), standby.Address(), 1)
	for _, attrs := range []string{"", "&target_session_attrs=any"} {
		_, err := postgres.Open(t.Context(), postgres.Options{URL: url + attrs, Timeout: short})
		wantRefused(t, err, "takes")
	}
	promoted := make(chan struct{})
	go func() {
		time.Sleep(short / 2)
		standby.Promote()
		close(promoted)
	}()
	put(t, openEngine(t, url), "a")
	<-promoted
}

// More connections than the server or a role may have.
func TestTooMany(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	url = asRole(t, server, url, "few", "LOGIN CONNECTION LIMIT 1")
	s := openWith(t, postgres.Options{URL: url, Timeout: short})
	release := lock(t, server)
	defer release()
	done := make(chan error)
	for _, id := range []string{"a", "b"} {
		go func() { done <- apply(s, id) }()
	}
	errs := []string{(<-done).Error(), (<-done).Error()}
	if !strings.Contains(strings.Join(errs, ""), "no connection left") {
		t.Errorf("got %q", errs)
	}
	release()
	retry(t, func() error { return apply(s, "c") })
}

// The network swallows what is sent: each call ends in time, and the next one gets a
// new connection.
func TestStalled(t *testing.T) {
	server := shared(t)
	p := newProxy(t, server.Address())
	url := strings.Replace(newSchema(t, server), server.Address(), p.address, 1)
	s := openWith(t, postgres.Options{URL: url, Timeout: short})
	done := make(chan error)
	release := lock(t, server)
	for i := range 12 { // one connection each
		go func() { done <- apply(s, fmt.Sprint(i)) }()
	}
	server.Wait("SELECT count(*)=12 FROM pg_stat_activity WHERE application_name='qkdmail' AND wait_event_type='Lock'")
	release()
	for range 12 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	p.stall()
	start := time.Now()
	wantRefused(t, apply(s, "a"), "")
	wantRefused(t, second(s.Get(t.Context(), name("a"))), "")
	if took := time.Since(start); took > 4*short {
		t.Errorf("two calls took %v", took)
	}
	p.resume()
	put(t, s, "c")
}

// The engine does not cancel a commit that waits for the standby; if the server cancels
// it, that is an error.
func TestStandbyGone(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.StartPair(t)
	url := newSchema(t, primary)
	s, other := openWith(t, postgres.Options{URL: url, Timeout: short}), openEngine(t, url)
	put(t, s, "a")
	standby.Stop()
	const unsynced = "FROM pg_stat_activity WHERE wait_event='SyncRep'"
	wantRefused(t, apply(s, "given up"), "synchronous standby")
	time.Sleep(short / 2)
	primary.Wait("SELECT count(*)=1 " + unsynced)
	if get(t, other, "given up") != nil {
		t.Error("others see what the standby lacks")
	}
	patient := openEngine(t, url)
	for _, end := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		done := make(chan error)
		go func() { done <- apply(patient, end) }()
		primary.Wait("SELECT count(*)=2 " + unsynced)
		primary.Exec("SELECT " + end + "(pid) " + unsynced + " AND query_start=(SELECT max(query_start) " + unsynced + ")")
		wantRefused(t, <-done, "synchronous standby")
	}
	standby.Restart()
	retry(t, func() error { return apply(s, "b") })
	primary.Wait("SELECT count(*)=0 " + unsynced)
	if get(t, other, "given up") == nil {
		t.Error("the record was committed, but is not there")
	}
	put(t, patient, "c")
}

// An Apply and a Get take one round trip each, however much they do.
func TestOneRoundTrip(t *testing.T) {
	const trip = 200 * time.Millisecond
	server := shared(t)
	p := newProxy(t, server.Address())
	s := openWith(t, postgres.Options{URL: strings.Replace(newSchema(t, server), server.Address(), p.address, 1), Connections: 1})
	put(t, s, "guard")
	guard := get(t, s, "guard")
	claim := func(id string) engine.Name { return engine.Name{Kind: engine.Claim, KM: "km", ID: id} }
	apply := func(id string) error {
		return s.Apply(t.Context(), engine.Change{New: record(id, "v")}, engine.Change{New: &engine.Record{Name: claim(id)}},
			engine.Change{New: &engine.Record{Name: claim(uuid.NewString())}}, engine.Change{Old: guard, New: guard})
	}
	look := func() error { return second(s.Get(t.Context(), name("a"), claim("a"), claim("b"), name("guard"))) }
	for _, id := range []string{"a", "b"} { // the server learns the statements
		if err := errors.Join(apply(id), look()); err != nil {
			t.Fatal(err)
		}
	}
	p.delay.Store(int64(trip / 2))
	for what, do := range map[string]func() error{"Apply": func() error { return apply("c") }, "Get": look} {
		start := time.Now()
		if err := do(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < trip || took > 2*trip-trip/10 {
			t.Errorf("%s took %v, with %v for a round trip", what, took, trip)
		}
	}
}
