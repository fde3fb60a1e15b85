package crashtest

import (
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	_ "modernc.org/sqlite" // another program that has the store open
)

// TestSQLite kills two encrypting and two decrypting relays, each pair with one
// SQLite file for its store.
func TestSQLite(t *testing.T) {
	seed := uint64(relaytest.Number(t, seedEnv, int(time.Now().UnixNano()&0xFFFFFF)))
	t.Logf("seed %d", seed)
	files := map[string]string{encrypt: filepath.Join(t.TempDir(), "keys.db"), decrypt: filepath.Join(t.TempDir(), "keys.db")}
	w := newWorld(t, seed, failures, 2, 2, stores{storeOf{url: files[encrypt]}, storeOf{url: files[decrypt]}})
	c := newChaos(w.seed, w.relays)
	c.downs(300*time.Millisecond, func(random *rand.Rand) bool { return random.IntN(10) > 0 })
	c.cuts(time.Second)
	for _, file := range files {
		c.every(6*time.Second, func(random *rand.Rand) { lock(t, file, time.Duration(random.IntN(500))*time.Millisecond) })
	}
	run(t, w, c, seconds(t))
	claimed := idsIn(t, openSQLite(t, files[encrypt]), keystore.KindClaim)
	kept := idsIn(t, openSQLite(t, files[decrypt]), keystore.KindReceive)
	w.conclude(t, claimed, kept)
}

// Relays that are stopped in good order lose no key, and nobody gets anything
// twice.
func TestStopped(t *testing.T) {
	files := map[string]string{encrypt: filepath.Join(t.TempDir(), "keys.db"), decrypt: filepath.Join(t.TempDir(), "keys.db")}
	w := newWorld(t, 1, "", 2, 2, stores{storeOf{url: files[encrypt]}, storeOf{url: files[decrypt]}})
	c := newChaos(w.seed, w.relays)
	c.downs(300*time.Millisecond, func(*rand.Rand) bool { return false })
	run(t, w, c, min(5*time.Second, seconds(t)))
	w.conclude(t, idsIn(t, openSQLite(t, files[encrypt]), keystore.KindClaim), idsIn(t, openSQLite(t, files[decrypt]), keystore.KindReceive))
	if c.stops.Load() == 0 {
		t.Error("no relay was stopped: nothing is shown by that")
	}
	if n := w.count; n.again+n.twiceEncrypted+n.twiceDelivered > 0 {
		t.Errorf("%d given up, %d encrypted twice, %d delivered twice; want none", n.again, n.twiceEncrypted, n.twiceDelivered)
	}
}

// Without stores the same must not go well: else the checks would prove nothing.
func TestWithoutStores(t *testing.T) {
	none := storeOf{url: "none"}
	w := newWorld(t, 1, failures, 1, 2, stores{none, none})
	c := newChaos(w.seed, w.relays)
	c.kills(200 * time.Millisecond)
	run(t, w, c, 3*time.Second)
	kept := map[string]bool{}
	for _, p := range w.letters {
		for _, id := range p.ids {
			kept[id] = true // a store may know too much
		}
	}
	if wrong := w.check(kept, kept); len(wrong) == 0 {
		t.Error("keys that were in memory only were lost, and nothing is found to be wrong")
	}
}

// lock keeps all others from writing to a store for a while.
func lock(t testing.TB, file string, long time.Duration) {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = db.Close() }()
	tx, err := db.Begin()
	if err != nil {
		return // it is a busy file
	}
	time.Sleep(long)
	_ = tx.Rollback()
}

func openSQLite(t testing.TB, file string) keystore.Engine {
	t.Helper()
	s, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
