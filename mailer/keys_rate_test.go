package mailer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// someKeys has the keys whose ID begins with "here".
type someKeys struct{}

func (someKeys) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	if ids[0][:4] != "here" {
		return nil, kmclient.ErrKeyNotFound
	}
	return []*kmclient.Key{kmclient.NewKey(ids[0], make([]byte, 32))}, nil
}

// TestKeyGateRate: only look-ups in vain count, so that the gate does not bound
// how much mail can be decrypted.
func TestKeyGateRate(t *testing.T) {
	g := newKeyGate(someKeys{}, time.Second)
	now := time.Now()
	g.now = func() time.Time { return now }
	asked := func(format string) (refused int) {
		for i := range 3 * gateBurst {
			if _, err := g.KeysByID(t.Context(), "peer", fmt.Sprintf(format, i)); err != nil && replyTo(err).reason == "rate" {
				refused++
			}
		}
		return refused
	}
	if n := asked("here-%d"); n != 0 {
		t.Errorf("%d look-ups of keys that are there were refused", n)
	}
	if n := asked("gone-%d"); n != 2*gateBurst {
		t.Errorf("%d look-ups in vain were refused, want %d", n, 2*gateBurst)
	}
}
