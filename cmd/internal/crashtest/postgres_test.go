package crashtest

import (
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
// standby, and the primary, so that the standby takes over.
func TestPostgreSQL(t *testing.T) {
	for _, decrypters := range []int{2, 4} {
		t.Run(fmt.Sprint(decrypters), func(t *testing.T) {
			seed := uint64(relaytest.Number(t, seedEnv, int(time.Now().UnixNano()&0xFFFFFF)))
			t.Logf("seed %d", seed)
			p := startPair(t)
			w := newWorld(t, seed, failures, 2, decrypters, stores{p.store("a"), p.store("b")})
			c := newChaos(seed, w.relays)
			c.kills(500 * time.Millisecond)
			c.cuts(time.Second)
			long := seconds(t) / 2
			c.takeovers(p, min(8*time.Second, long/2))
			run(t, w, c, long)
			claimed := idsIn(t, p.open("a"), keystore.KindClaim)
			kept := idsIn(t, p.open("b"), keystore.KindReceive)
			w.conclude(t, claimed, kept)
			if p.takeovers.Load() == 0 {
				t.Errorf("no standby took over: nothing is shown by that (seed %d)", seed)
			}
			t.Logf("a standby took over %d times, and %d times the old primary came back as if nothing had happened", p.takeovers.Load(), p.returns.Load())
		})
	}
}

// takeovers has the primary killed now and then.
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

// takeOver kills the primary, has the standby take over, and makes the server that
// was killed its standby. If back, that first runs for a moment as the primary that it
// was: nothing tells it that there is another one.
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
	return inPostgres(p.t, p.url(schema), p.primary.Address(), p.standby.Address())
}

func (p *pair) url(schema string) string {
	return p.primary.URL(p.standby) + "&search_path=" + schema
}

func (p *pair) open(schema string) keystore.Engine {
	p.t.Helper()
	return openPostgres(p.t, p.url(schema))
}

// inPostgres makes the schema of a URL, and is a store in it with a store key of its
// own. ends are the servers of the URL.
func inPostgres(t testing.TB, url string, ends ...string) storeOf {
	t.Helper()
	if err := postgres.Init(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "store.key")
	octets := make([]byte, 32)
	for i := range octets {
		octets[i] = byte(rand.Int())
	}
	if err := os.WriteFile(key, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, end := range ends {
		url = strings.Replace(url, end, fmt.Sprintf("{%d}", i), 1)
	}
	return storeOf{url: url, flags: []string{"--store-key", "file:" + key}, ends: ends}
}

func openPostgres(t testing.TB, url string) keystore.Engine {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestPatroni kills relays, and the primary of a cluster in which Patroni decides who
// takes over.
func TestPatroni(t *testing.T) {
	if os.Getenv(secondsEnv) == "" {
		t.Skip("SKIPPED: it takes minutes; scripts/crash-store runs it")
	}
	seed := uint64(relaytest.Number(t, seedEnv, int(time.Now().UnixNano()&0xFFFFFF)))
	t.Logf("seed %d", seed)
	p := pgtest.StartPatroni(t)
	url := func(schema string) string { return p.URL() + "&search_path=" + schema }
	w := newWorld(t, seed, failures, 2, 2, stores{inPostgres(t, url("a"), p.Addresses()...), inPostgres(t, url("b"), p.Addresses()...)})
	c := newChaos(seed, w.relays)
	c.kills(2 * time.Second)
	c.cuts(2 * time.Second)
	var takeovers atomic.Int64
	c.every(time.Second, func(*rand.Rand) {
		p.KillPrimary()
		takeovers.Add(1)
	})
	run(t, w, c, seconds(t))
	claimed := idsIn(t, openPostgres(t, url("a")), keystore.KindClaim)
	kept := idsIn(t, openPostgres(t, url("b")), keystore.KindReceive)
	w.conclude(t, claimed, kept)
	t.Logf("Patroni made another server the primary %d times", takeovers.Load())
	if takeovers.Load() == 0 {
		t.Error("no server took over: nothing is shown by that")
	}
}
