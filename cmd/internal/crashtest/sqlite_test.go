package crashtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	s := stores{inSQLite(t.TempDir()), inSQLite(t.TempDir())}
	w := newWorld(t, relaytest.Seed(t, seedEnv), failures, 2, 2, s)
	c := newChaos(w.seed, w.relays)
	c.downs(300*time.Millisecond, func(random *rand.Rand) bool { return random.IntN(10) > 0 })
	c.cuts(time.Second)
	for _, file := range []string{s.encrypt.url, s.decrypt.url} {
		c.every(6*time.Second, func(random *rand.Rand) {
			unlock, err := lockSQLite(file, 5*time.Second)
			if err != nil {
				return // the file is busy
			}
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
			unlock()
		})
	}
	run(t, w, c, seconds(t))
	w.conclude(t)
}

// TestStopped stops relays gracefully: they lose no key, and deliver nothing
// twice.
func TestStopped(t *testing.T) {
	w := newWorld(t, 1, "", 2, 2, stores{inSQLite(t.TempDir()), inSQLite(t.TempDir())})
	c := newChaos(w.seed, w.relays)
	c.downs(300*time.Millisecond, func(*rand.Rand) bool { return false })
	run(t, w, c, min(5*time.Second, seconds(t)))
	w.conclude(t)
	if c.stops.Load() == 0 {
		t.Error("no relay was stopped: this proves nothing")
	}
	if n := w.count; n.again+n.twiceEncrypted+n.twiceDelivered > 0 {
		t.Errorf("%d given up, %d encrypted twice, %d delivered twice; want none", n.again, n.twiceEncrypted, n.twiceDelivered)
	}
}

// TestWithoutStores does the same without stores, and must find something wrong.
// Otherwise the checks would prove nothing.
func TestWithoutStores(t *testing.T) {
	none := storeOf{url: "none"}
	w := newWorld(t, 1, failures, 1, 2, stores{none, none})
	c := newChaos(w.seed, w.relays)
	c.kills(200 * time.Millisecond)
	run(t, w, c, 3*time.Second)
	kept := map[string]bool{}
	for _, p := range w.letters {
		for _, id := range p.ids {
			kept[id] = true // a store may know more than needed
		}
	}
	if wrong := w.check(kept, kept); len(wrong) == 0 {
		t.Error("keys that were only in memory were lost, but the checks find nothing wrong")
	}
}

// lockSQLite keeps all others from writing to a store. It waits for the lock no
// longer than patience.
func lockSQLite(file string, patience time.Duration) (unlock func(), err error) {
	db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_txlock=immediate&_pragma=busy_timeout(%d)", file, patience.Milliseconds()))
	if err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return func() { _ = errors.Join(tx.Rollback(), db.Close()) }, nil
}

// inSQLite returns a store in a folder.
func inSQLite(dir string) storeOf {
	file := filepath.Join(dir, "keys.db")
	return storeOf{url: file, open: func(ctx context.Context) (keystore.Engine, error) {
		return sqlite.Open(ctx, file, sqlite.Options{})
	}}
}
