package mailer

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// boundedKeys bounds every wait for a key manager.
type boundedKeys struct {
	source cipher.KeySource
	within time.Duration
}

func (b boundedKeys) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, b.within)
	defer cancel()
	return b.source.Status(ctx, peer)
}

func (b boundedKeys) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, b.within)
	defer cancel()
	return b.source.GetKeys(ctx, peer, size, number)
}

// How a keyGate keeps look-ups away from a key manager, and how long a key may
// be missing before that is final.
const (
	gateRemember = 30 * time.Second // a missing key is not asked for again so soon
	gateGrace    = 4 * time.Hour    // the two sites may not have synchronised yet
	gateMax      = 10_000           // keys remembered
	gateRate     = 200              // look-ups in vain, a second and peer
	gateBurst    = 2000             // and look-ups at one time
)

// errKeyGone is a key that was missing for so long that it won't come.
var errKeyGone = errors.New("key did not come within its time")

// A keyGate stands before a key manager: whoever sends messages that name keys
// which do not exist must not keep it busy.
type keyGate struct {
	finder cipher.KeyFinder
	within time.Duration
	now    func() time.Time

	mu      sync.Mutex
	missing map[string]missingKey // by gateKey
	tokens  map[string]*bucket    // by peer
}

type missingKey struct{ first, last time.Time }

type bucket struct {
	left float64
	at   time.Time
}

func newKeyGate(finder cipher.KeyFinder, within time.Duration) *keyGate {
	return &keyGate{finder: finder, within: within, now: time.Now, missing: map[string]missingKey{}, tokens: map[string]*bucket{}}
}

// KeysByID asks the key manager, unless it has just said no or is asked too
// often.
func (g *keyGate) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	if err := g.admit(peer, ids); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	keys, err := g.finder.KeysByID(ctx, peer, ids...)
	if errors.Is(err, kmclient.ErrKeyNotFound) {
		return nil, errors.Join(err, g.note(gateKey(peer, ids)))
	}
	if err == nil {
		g.mu.Lock()
		delete(g.missing, gateKey(peer, ids))
		g.tokens[peer].left++ // a key that is there may be asked for at any rate
		g.mu.Unlock()
	}
	return keys, err
}

// BindKeys passes on what a key store behind the gate has to know.
func (g *keyGate) BindKeys(ctx context.Context, peer string, identity cipher.Identity, frame uint64, ids ...string) error {
	binder, ok := g.finder.(cipher.KeyBinder)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	return binder.BindKeys(ctx, peer, identity, frame, ids...)
}

// gateKey is what a missing key is remembered by: all that was asked for, since
// a true ID beside one that does not exist must not get a bad name.
func gateKey(peer string, ids []string) string {
	key := peer
	for _, id := range ids {
		key += "\x00" + kmclient.CanonicalID(id)
	}
	sum := sha256.Sum256([]byte(key)) // a frame may name 255 keys
	return string(sum[:])
}

// admit refuses what has just been refused, and too many look-ups.
func (g *keyGate) admit(peer string, ids []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if m, ok := g.missing[gateKey(peer, ids)]; ok && now.Sub(m.last) < gateRemember {
		if now.Sub(m.first) > gateGrace {
			return errors.Join(kmclient.ErrKeyNotFound, errKeyGone)
		}
		return kmclient.ErrKeyNotFound
	}
	b := g.tokens[peer]
	if b == nil {
		b = &bucket{left: gateBurst, at: now}
		g.tokens[peer] = b // peers are those of the configuration, so few
	}
	b.left = min(gateBurst, b.left+now.Sub(b.at).Seconds()*gateRate)
	b.at = now
	if b.left < 1 {
		return refuse(451, [3]int{4, 7, 0}, "rate", "Too many messages at once from this peer, try again later")
	}
	b.left--
	return nil
}

// note remembers a missing key; the error is errKeyGone once its grace is over.
func (g *keyGate) note(k string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	m, ok := g.missing[k]
	if !ok {
		g.makeRoom(now)
		m.first = now
	}
	m.last = now
	g.missing[k] = m
	if now.Sub(m.first) > gateGrace {
		return errKeyGone
	}
	return nil
}

// makeRoom forgets what is past its time, and if that is not enough the rest:
// a key that comes late is worth more than a look-up saved.
func (g *keyGate) makeRoom(now time.Time) {
	if len(g.missing) < gateMax {
		return
	}
	for k, m := range g.missing {
		if now.Sub(m.last) > 2*gateGrace {
			delete(g.missing, k)
		}
	}
	if len(g.missing) >= gateMax {
		clear(g.missing)
	}
}
