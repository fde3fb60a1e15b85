// Package keygate keeps messages with made-up key IDs from flooding a key manager with
// look-ups.
package keygate

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// The limits of a Gate.
const (
	remember = 30 * time.Second // how long a missing key is not asked for again
	most     = 10_000           // most keys, and most clients, that are remembered

	// Look-ups of missing keys, per second and at once. A client may make a tenth of a
	// peer's: whoever forges messages in a peer's name must not use up what the peer may
	// make.
	peerRate, peerBurst     = 200, 2000
	clientRate, clientBurst = 20, 200
)

// ErrGone: a key has been missing for so long that it will not come.
var ErrGone = errors.New("key did not come within its time")

// A Gate asks a key manager, unless it has just refused or is asked too often.
type Gate struct {
	finder cipher.KeyFinder
	binder cipher.KeyBinder
	within time.Duration // for a look-up
	grace  time.Duration
	now    func() time.Time

	mu      sync.Mutex
	missing map[string]missingKey // by nameOf
	peers   buckets
	clients buckets
}

type missingKey struct{ first, last time.Time }

// New returns a gate in front of finder and binder. within bounds each look-up; grace is
// how long a key may be missing.
func New(finder cipher.KeyFinder, binder cipher.KeyBinder, within, grace time.Duration) *Gate {
	return &Gate{
		finder: finder, binder: binder, within: within, grace: grace, now: time.Now,
		missing: map[string]missingKey{},
		peers:   buckets{peerRate, peerBurst, map[string]*bucket{}}, clients: buckets{clientRate, clientBurst, map[string]*bucket{}},
	}
}

// buckets hold what each of many names may do; they fill up with time.
type buckets struct {
	rate, burst float64 // look-ups added per second, and the most that a bucket holds
	byName      map[string]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// of returns the bucket of a name, filled up to now.
func (b *buckets) of(name string, now time.Time) *bucket {
	one := b.byName[name]
	if one == nil {
		if len(b.byName) >= most {
			clear(b.byName)
		}
		one = &bucket{left: b.burst, at: now}
		b.byName[name] = one
	}
	one.left = min(b.burst, one.left+now.Sub(one.at).Seconds()*b.rate)
	one.at = now
	return one
}

// KeysByID asks for keys. The error is an [ErrGone] as well as a
// [kmclient.ErrKeyNotFound] once a key has been missing for longer than the grace, and a
// refusal.Refusal with code 451 if too many keys are missing. client is the network that
// the message comes from, "" if that is not known.
func (g *Gate) KeysByID(ctx context.Context, client, peer string, ids ...string) ([]*kmclient.Key, error) {
	if err := g.admit(client, peer, ids); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	keys, err := g.finder.KeysByID(ctx, peer, ids...)
	if errors.Is(err, kmclient.ErrKeyNotFound) {
		return keys, errors.Join(err, g.note(nameOf(peer, ids)))
	}
	if err == nil {
		g.found(client, peer, ids)
	}
	return keys, err
}

// BindKeys binds keys that a message was verified under.
func (g *Gate) BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error {
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	return g.binder.BindKeys(ctx, peer, identity, frame, ids...)
}

// nameOf returns the name by which a missing key is remembered: that of all keys asked
// for together, so that a missing key does not block an existing one that was asked for
// with it.
func nameOf(peer string, ids []string) string {
	key := peer
	for _, id := range ids {
		key += "\x00" + kmclient.CanonicalID(id)
	}
	sum := sha256.Sum256([]byte(key)) // a frame may name 255 keys
	return string(sum[:])
}

// admit refuses look-ups of keys that were missing a moment ago, and look-ups beyond the
// limits.
func (g *Gate) admit(client, peer string, ids []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if m, ok := g.missing[nameOf(peer, ids)]; ok && now.Sub(m.last) < remember {
		if now.Sub(m.first) > g.grace {
			return errors.Join(kmclient.ErrKeyNotFound, ErrGone)
		}
		return kmclient.ErrKeyNotFound
	}
	tooMany := refusal.New(451, [3]int{4, 7, 0}, "rate", "Too many messages at once from this peer, try again later")
	all := []*bucket{g.peers.of(peer, now)}
	if client != "" {
		all = append(all, g.clients.of(client, now))
	}
	for _, b := range all {
		if b.left < 1 {
			return tooMany
		}
	}
	for _, b := range all {
		b.left--
	}
	return nil
}

// found notes that the keys are there: such look-ups may come at any rate.
func (g *Gate) found(client, peer string, ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	delete(g.missing, nameOf(peer, ids))
	g.peers.of(peer, now).left++
	if client != "" {
		g.clients.of(client, now).left++
	}
}

// note remembers a missing key. Once its grace is over the error is ErrGone.
func (g *Gate) note(k string) error {
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
	if now.Sub(m.first) > g.grace {
		return ErrGone
	}
	return nil
}

// makeRoom forgets what has expired and, if that is not enough, everything: an extra
// look-up does less harm than missing a key that has arrived.
func (g *Gate) makeRoom(now time.Time) {
	if len(g.missing) < most {
		return
	}
	for k, m := range g.missing {
		if now.Sub(m.last) > 2*g.grace {
			delete(g.missing, k)
		}
	}
	if len(g.missing) >= most {
		clear(g.missing)
	}
}
