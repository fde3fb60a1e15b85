package mailer

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// What is refused for want of keys, and when an attempt is allowed.
func TestShortage(t *testing.T) {
	status := func(stored int) kmclient.Status {
		return kmclient.Status{KeySize: 256, StoredKeys: new(stored), MaxKeySize: 256, MaxKeyPerRequest: 128}
	}
	frames := func(n int64) cipher.PadCost { return cipher.PadCost{Frames: n, Keys: 255 * n, KeyBytes: 255 * 32 * n} }
	const trial = true
	one := cipher.PadCost{Frames: 1, Keys: 100, KeyBytes: 3200}
	now := time.Now()
	s := newShortages(slog.New(slog.DiscardHandler))
	s.now = func() time.Time { return now }
	check := func(what string, cost cipher.PadCost, status kmclient.Status, opportunistic, allowed bool) {
		t.Helper()
		_, err := s.check("B", cost, status, opportunistic)
		if (err == nil) != allowed || err != nil && !errors.Is(err, kmclient.ErrKeyExhausted) {
			t.Errorf("%s: %v, want allowed: %v", what, err, allowed)
		}
	}
	check("enough", frames(3), status(1000), false, true)
	check("none in the status", frames(3), status(0), false, true)
	check("no word on the stock", frames(3), kmclient.Status{}, false, true)
	check("made on demand", frames(3), kmclient.Status{KeySize: 256, StoredKeys: new(1), OnDemand: true}, false, true)
	check("too few for one request", one, status(10), false, true)
	check("too few, opportunistic", frames(3), status(10), true, true)
	check("too few", frames(3), status(10), false, false)
	check("too few again", frames(3), status(10), false, false)
	check("the same, where the status is not sure", frames(3), status(0), false, false)
	check("a longer one", frames(4), status(0), false, false)
	check("a shorter one", frames(2), status(0), false, true)
	check("the status alone does not count", frames(3), status(0), true, true)
	check("keys have come", frames(3), status(1000), false, true)
	now = now.Add(61 * time.Second)
	check("one may try", frames(3), status(10), false, true)
	check("and no other", frames(3), status(10), false, false)
	s.learn("B", frames(3).KeyBytes, 0, trial, errNotTried)
	check("another, since it has shown nothing", frames(3), status(10), false, true)
	s.learn("B", frames(3).KeyBytes, 200, trial, fmt.Errorf("test: %w", kmclient.ErrKeyExhausted))
	now = now.Add(61 * time.Second)
	check("for longer", frames(3), status(10), false, false)
	now = now.Add(60 * time.Second)
	check("then one", frames(3), status(10), false, true)
	now = now.Add(121 * time.Second)
	check("and one more, since that one never ends", frames(3), status(10), false, true)
	s.learn("B", frames(3).KeyBytes, 200, trial, fmt.Errorf("test: %w", kmclient.ErrKeyExhausted))
	check("it ran dry", frames(3), status(0), false, false)
	check("it ran dry, opportunistic", frames(3), status(0), true, false)
	check("another peer's", frames(2), status(0), true, true)
	now = now.Add(2 * time.Hour)
	check("tried again", frames(3), status(0), true, true)
	s.learn("B", frames(3).KeyBytes, 765, trial, nil)
	check("it went well", frames(3), status(0), true, true)
	s.learn("B", frames(3).KeyBytes, 0, !trial, kmclient.ErrKeyExhausted)
	check("nothing was used up", frames(3), status(0), true, true)
	for range 20 {
		s.learn("B", frames(3).KeyBytes, 1, trial, kmclient.ErrKeyExhausted)
		now = now.Add(mostWait + time.Second)
		check("an hour at most", frames(3), status(0), false, true)
	}
}
