package crashtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// TestPostgreSQL kills relays that have their stores on a primary with a synchronous
// standby. It also kills the primary, so that the standby takes over.
func TestPostgreSQL(t *testing.T) {
	for _, decrypters := range []int{2, 4} {
		t.Run(fmt.Sprint(decrypters), func(t *testing.T) {
			p := startPair(t)
			w := newWorld(t, relaytest.Seed(t, seedEnv), failures, 2, decrypters, stores{p.store("a"), p.store("b")})
			c := newChaos(w.seed, w.relays)
			c.kills(500 * time.Millisecond)
			c.cuts(time.Second)
			long := seconds(t) / 2
			c.takeovers(p, min(8*time.Second, long/2))
			run(t, w, c, long)
			w.conclude(t)
			if p.takeovers.Load() == 0 {
				t.Error("no standby took over: this proves nothing")
			}
			t.Logf("a standby took over %d times, and %d times the old primary came back as if nothing had happened", p.takeovers.Load(), p.returns.Load())
		})
	}
}

// takeovers kills the primary now and then.
func (c *chaos) takeovers(p *pair, most time.Duration) {
	c.every(most, func(random *rand.Rand) { p.takeOver(random.IntN(2) == 0) })
}

// A pair is a primary and its standby, at two addresses.
type pair struct {
	t         testing.TB
	takeovers atomic.Int64
	returns   atomic.Int64 // of old primaries

	mu       sync.Mutex
	primary  *pgtest.Server
	standby  *pgtest.Server
	standbys int
}

func startPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{t: t}
	p.primary, p.standby = pgtest.StartPair(t, "max_connections=200")
	return p
}

// takeOver kills the primary, promotes the standby, and makes the killed server its
// standby. If back, the killed server first runs for a moment as a primary again: it
// does not know that there is another one.
func (p *pair) takeOver(back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.primary
	old.Kill()
	p.standby.Promote()
	p.takeovers.Add(1)
	if back {
		old.Restart()
		time.Sleep(300 * time.Millisecond)
		old.Stop()
		p.returns.Add(1)
	}
	p.primary = p.standby
	p.standbys++
	name := fmt.Sprint("standby", p.standbys)
	p.standby = old
	old.Rejoin(p.primary, name)
	p.primary.Set("synchronous_standby_names", name)
	p.primary.Wait("SELECT count(*)=1 FROM pg_stat_replication WHERE sync_state='sync'")
}

// store makes a store in a schema of the pair.
func (p *pair) store(schema string) storeOf {
	p.t.Helper()
	return inPostgres(p.t, p.primary.URL(p.standby)+"&search_path="+schema, p.primary.Address(), p.standby.Address())
}

// inPostgres makes the schema of a URL, and returns a store in it with its own store
// key. ends are the servers of the URL.
func inPostgres(t testing.TB, url string, ends ...string) storeOf {
	t.Helper()
	if err := postgres.Init(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	whole, key := url, filepath.Join(t.TempDir(), "store.key")
	random := make([]byte, 32)
	for i := range random {
		random[i] = byte(rand.Int())
	}
	if err := os.WriteFile(key, random, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(ctx context.Context) (keystore.Engine, error) {
		return postgres.Open(ctx, postgres.Options{URL: whole})
	}
	for i, end := range ends {
		url = strings.Replace(url, end, fmt.Sprintf("{%d}", i), 1)
	}
	return storeOf{url: url, key: key, ends: ends, open: open}
}

// TestPatroni kills relays, and the primary of a cluster in which Patroni decides who
// takes over.
func TestPatroni(t *testing.T) {
	if os.Getenv(secondsEnv) == "" {
		t.Skip("SKIPPED: it takes minutes; scripts/crash-store runs it")
	}
	p := pgtest.StartPatroni(t)
	url := func(schema string) string { return p.URL() + "&search_path=" + schema }
	w := newWorld(t, relaytest.Seed(t, seedEnv), failures, 2, 2, stores{inPostgres(t, url("a"), p.Addresses()...), inPostgres(t, url("b"), p.Addresses()...)})
	c := newChaos(w.seed, w.relays)
	c.kills(2 * time.Second)
	c.cuts(2 * time.Second)
	var takeovers atomic.Int64
	c.every(time.Second, func(*rand.Rand) {
		p.KillPrimary()
		takeovers.Add(1)
	})
	run(t, w, c, seconds(t))
	w.conclude(t)
	t.Logf("Patroni made another server the primary %d times", takeovers.Load())
	if takeovers.Load() == 0 {
		t.Error("no server took over: this proves nothing")
	}
}
