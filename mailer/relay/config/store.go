package config

import (
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
)

// MinTombstones is the least time for which a key store must remember that a key was
// closed: as long as a relay could accept a message under it again.
const MinTombstones = mailer.DefaultMaxAge + mailer.DefaultMaxAhead

const maxKept = 36500 * 24 * time.Hour // a hundred years

// store checks [store].
func (f *findings) store() {
	s := &f.c.Store
	location := keystore.Location(s.Path)
	postgres := location.IsPostgres()
	if err := location.Check(); err != nil {
		f.add("store.path", "%s", strings.TrimPrefix(err.Error(), kmclient.ErrConfig.Error()+": "))
	}
	if postgres && !strings.Contains(s.Path, "://") {
		f.add("store.path", "must be a file, postgres://USER@HOST:PORT,…/DATABASE or %s", StoreNone)
	}
	if _, err := keystore.ParseStoreKeySource(s.Key, "beside", nil); err != nil {
		f.add("store.key", "must be file:PATH, credential:NAME or env:NAME") // it could be the key itself
	}
	if postgres && s.Key == "" {
		f.add("store.key", "missing: there is no file to put it beside")
	}
	f.kept("store.tombstones", s.Tombstones)
	if s.Undelivered != 0 {
		f.kept("store.undelivered", s.Undelivered)
	}
}

// kept checks the time for which something is kept that must outlive all messages that
// could be accepted.
func (f *findings) kept(key string, d time.Duration) {
	if d < MinTombstones || d > maxKept {
		f.add(key, "%s must be %dd to %dd, since messages up to %d days old, or a day ahead, are accepted",
			d, MinTombstones/(24*time.Hour), maxKept/(24*time.Hour), mailer.DefaultMaxAge/(24*time.Hour))
	}
}
