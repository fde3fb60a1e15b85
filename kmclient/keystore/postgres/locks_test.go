package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
)

const waiting = "FROM pg_stat_activity WHERE application_name='qkdmail' AND wait_event_type='Lock'"

// Two calls of Apply that change the same records in different orders don't wait for
// each other: both are held up at the second of three records, and only one goes on.
func TestNoDeadlock(t *testing.T) {
	server := shared(t)
	s := openEngine(t, newSchema(t, server))
	var changes []engine.Change
	for _, id := range []string{"a", "b", "c"} {
		put(t, s, id)
		changes = append(changes, engine.Change{Old: get(t, s, id), New: record(id, "2")})
	}
	other := []engine.Change{}
	for _, c := range slices.Backward(changes) {
		other = append(other, engine.Change{Old: c.Old, New: record(c.Old.ID, "3")})
	}
	release := server.Hold("SELECT 1 FROM " + schemaName() + ".records WHERE id='b' FOR UPDATE")
	defer release()
	done := make(chan error, 2)
	go func() { done <- s.Apply(t.Context(), changes...) }()
	go func() { done <- s.Apply(t.Context(), other...) }()
	server.Wait("SELECT count(*)=2 " + waiting)
	release()
	first, then := <-done, <-done
	if first != nil && then != nil || !errors.Is(errors.Join(first, then), engine.ErrConflict) {
		t.Errorf("got %v and %v, want one conflict", first, then)
	}
	if strings.Contains(server.Log(), "deadlock detected") {
		t.Error("the server detected a deadlock")
	}
}

// A record that is only checked stays as it is until the commit.
func TestCheckHolds(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	s, other := openEngine(t, url), openWith(t, postgres.Options{URL: url, Timeout: short})
	put(t, s, "guard")
	guard := get(t, s, "guard")
	release := server.Hold("INSERT INTO " + schemaName() + ".records VALUES ('receive', 'km', 'sae', 'z', 0, 1, '')")
	defer release()
	done := make(chan error, 1)
	go func() {
		done <- s.Apply(t.Context(), engine.Change{Old: guard, New: guard}, engine.Change{New: record("z", "v")})
	}()
	server.Wait("SELECT count(*)=1 " + waiting)
	change := engine.Change{Old: guard, New: record("guard", "2")}
	wantRefused(t, other.Apply(t.Context(), change), "")
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// If two make the same claim at the same time, one gets it, and the other's whole Apply
// is rolled back.
func TestSameClaim(t *testing.T) {
	url := newSchema(t, shared(t))
	stores := []*postgres.Engine{openEngine(t, url), openEngine(t, url)}
	for range 20 {
		done := make(chan error, 2)
		claim := engine.Name{Kind: engine.Claim, KM: "km", ID: uuid.NewString()}
		for i, s := range stores {
			go func() {
				done <- s.Apply(t.Context(), engine.Change{New: &engine.Record{Name: claim}}, engine.Change{New: record(claim.ID+string(rune('0'+i)), "v")})
			}()
		}
		won := 0
		for range stores {
			if err := <-done; err == nil {
				won++
			} else if !errors.Is(err, engine.ErrConflict) {
				t.Error(err)
			}
		}
		if a, b := get(t, stores[0], claim.ID+"0"), get(t, stores[0], claim.ID+"1"); won != 1 || (a == nil) == (b == nil) {
			t.Errorf("%d have the claim, want one", won)
		}
	}
}

// As many records as one Apply accepts are changed, checked and deleted at once.
func TestManyChanges(t *testing.T) {
	s := openEngine(t, newSchema(t, shared(t)))
	n := s.Limits().Changes
	records := make([]*engine.Record, n)
	fresh := func(i int) *engine.Record { return record(fmt.Sprint(i), "v") }
	for _, step := range []func(i int) engine.Change{
		func(i int) engine.Change { return engine.Change{New: fresh(i)} },
		func(i int) engine.Change { return engine.Change{Old: records[i], New: fresh(i)} },
		func(i int) engine.Change { return engine.Change{Old: records[i], New: records[i]} },
		func(i int) engine.Change { return engine.Change{Old: records[i]} },
	} {
		changes := make([]engine.Change, n)
		for i := range changes {
			changes[i] = step(i)
		}
		start := time.Now()
		if err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d changes in %v", n, time.Since(start))
		for i, c := range changes {
			records[i] = c.New
		}
	}
	if left, err := s.List(t.Context(), engine.Name{}, 1); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}
