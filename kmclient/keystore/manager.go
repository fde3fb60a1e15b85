package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Options of a Manager. Zero means the default. Tombstones and Undelivered are a
// hundred years at most.
type Options struct {
	KM  string // a name for the key manager under which its keys are stored; it must not change. May be empty
	SAE string // own SAE ID; "" if there is none

	Close Policy // when keys of delivered messages are closed; after:7d

	// Tombstones is how long it is remembered that a key was closed, and who
	// has got its message; 60 days. It must be longer than the age of messages
	// that are accepted: a relay's MaxAge is 30 days.
	Tombstones time.Duration

	// Undelivered is when a key goes whose message was not delivered, or never
	// came, from when it was stored. Zero is never: no key that may still be
	// needed hangs on a clock. If set, it must be longer than the age of
	// messages that are accepted.
	Undelivered time.Duration

	// FetchTimeout is for a fetch from the key manager, with the time to store
	// it; 2 minutes. A fetch goes on when its caller gives up.
	FetchTimeout time.Duration

	Logger *slog.Logger     // for alarms and what goes wrong in the background; may be nil
	Now    func() time.Time // a clock that is never set; that of the system, which may be
}

// Stats counts what a Manager has done since it was made.
type Stats struct {
	Fetched   int64 // receiving keys that came from the key manager, and were new here
	FromStore int64 // receiving keys that were there already
	Stored    int64 // receiving keys committed
	Claimed   int64 // sending key IDs committed
	Bound     int64 // keys bound to a message
	Delivered int64 // recipients recorded

	BoundRefused  int64 // keys refused because they belong to another message: alarm
	ClosedRefused int64 // messages under a closed key for somebody who has not got them: alarm
	Reused        int64 // key IDs that came again, to encrypt or to decrypt with: alarm
	Changed       int64 // receiving keys that came again with other octets: alarm
	StoreErrors   int64 // operations that failed for the store

	Closed     int64 // keys closed here
	ClosedAtKM int64 // of them, closed at the key manager as well
	Tombstones int64 // tombstones removed for their age
	Waiting    int   // keys that were fetched and could not be stored yet: they live in memory only

	Swept time.Time // when a sweep last came to its end; zero: not yet
}

type counters struct {
	fetched, fromStore, stored, claimed, bound, delivered atomic.Int64
	boundRefused, closedRefused, reused, changed          atomic.Int64
	storeErrors                                           atomic.Int64
	closed, closedAtKM, tombstones                        atomic.Int64
	swept                                                 atomic.Pointer[time.Time]
}

// A Manager is a key manager with a memory; see the package's comment. Its
// methods may be called from several goroutines at the same time.
type Manager struct {
	km    kmclient.KeyManager
	vault *Vault
	o     Options
	clock timekeeper
	count counters

	work   sync.WaitGroup // fetches, and attempts to store what they brought
	quit   chan struct{}  // closed when Close is called
	unsure atomic.Bool    // the last claim may not have been stored

	mu       sync.Mutex
	closed   bool               // nothing is fetched any more
	ended    bool               // Close has ended: nothing can be kept any more
	flights  map[string]*flight // those under way, by keyID
	waiting  map[string]waiting // keys that could not be stored, by keyID
	flushing *flushing          // that is under way, or nil
	retrying bool               // somebody tries to store what waits, until that is done
}

var (
	_ kmclient.KeyManager = (*Manager)(nil)
	_ kmclient.Lister     = (*Manager)(nil)
)

// New returns a Manager before km. It closes neither km nor the vault. A client
// that has a method KeepWith, as [etsi014.Client] has, also behind others with
// a method Unwrap, hands over to this Manager the keys that it gets without
// their caller: so one client has one Manager.
func New(km kmclient.KeyManager, vault *Vault, o Options) (*Manager, error) {
	o.Tombstones = cmp.Or(o.Tombstones, 60*24*time.Hour)
	o.FetchTimeout = cmp.Or(o.FetchTimeout, 2*time.Minute)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	m := &Manager{km: km, vault: vault, o: o, flights: map[string]*flight{}, waiting: map[string]waiting{}, quit: make(chan struct{})}
	m.clock = newTimekeeper(o.Now, o.Logger)
	switch {
	case km == nil || vault == nil:
		return nil, fmt.Errorf("%w: a keystore needs a key manager and a vault", kmclient.ErrConfig)
	case o.Tombstones < 0, o.Undelivered < 0, o.FetchTimeout < 0:
		return nil, fmt.Errorf("%w: a negative time", kmclient.ErrConfig)
	case o.Tombstones > longest, o.Undelivered > longest:
		return nil, fmt.Errorf("%w: keys or tombstones are to be kept for more than a hundred years", kmclient.ErrConfig)
	}
	if err := m.name(KindReceive, "").Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", kmclient.ErrConfig, err)
	}
	m.takeStrays(km)
	return m, nil
}

// DeletesOnDelivery is false: what was fetched can be fetched again.
func (m *Manager) DeletesOnDelivery() bool { return false }

// Status passes through to the key manager.
func (m *Manager) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	return m.km.Status(ctx, peer)
}

// Stats returns the counts so far.
func (m *Manager) Stats() Stats {
	c := &m.count
	m.mu.Lock()
	n := len(m.waiting)
	m.mu.Unlock()
	s := Stats{
		Fetched: c.fetched.Load(), FromStore: c.fromStore.Load(), Stored: c.stored.Load(), Claimed: c.claimed.Load(),
		Bound: c.bound.Load(), Delivered: c.delivered.Load(), BoundRefused: c.boundRefused.Load(),
		ClosedRefused: c.closedRefused.Load(), Reused: c.reused.Load(), Changed: c.changed.Load(), StoreErrors: c.storeErrors.Load(),
		Closed: c.closed.Load(), ClosedAtKM: c.closedAtKM.Load(), Tombstones: c.tombstones.Load(), Waiting: n,
	}
	if at := c.swept.Load(); at != nil {
		s.Swept = *at
	}
	return s
}

// Close waits for fetches that are under way and stores the keys that could
// not be stored before, or says how many of them are lost. It returns no later
// than ctx ends. Nothing is fetched afterwards.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.quit)
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		m.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	err := m.flush(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	lost := len(m.waiting)
	for id, w := range m.waiting {
		w.key.Wipe()
		delete(m.waiting, id)
	}
	if lost > 0 {
		return fmt.Errorf("%d keys that were fetched could not be stored and are lost: %w", lost, err)
	}
	return err
}

// Names of operations in errors.
const (
	opKeysByID = "keys by ID"
	opGetKeys  = "get keys"
	opBind     = "bind keys"
	opDeliver  = "record delivery"
	opClose    = "close key"
	opList     = "list keys"
)

// fail is the error for a caller: with what it needs to decide what to do next.
func (m *Manager) fail(op string, err error) error {
	if _, ok := errors.AsType[*kmclient.Error](err); err == nil || ok {
		return err
	}
	if errors.Is(err, kmclient.ErrStore) {
		m.count.storeErrors.Add(1)
	}
	if errors.Is(err, ErrConflict) {
		err = fmt.Errorf("%w: too many others work with the same record: %w", kmclient.ErrUnavailable, err)
	}
	retry := errors.Is(err, kmclient.ErrStore) || errors.Is(err, kmclient.ErrUnavailable) || errors.Is(err, ErrStoreKey) ||
		errors.Is(err, ErrReused) && !errors.Is(err, ErrClaimed)
	return &kmclient.Error{Op: op, Retry: retry, Err: err}
}

// attempts is how often a change is tried that others get in the way of.
const attempts = 40

// retry calls change until it meets no conflict, with longer and longer pauses:
// a mailing list's message may be delivered in many transactions at a time.
func retry(change func() error) (err error) {
	for n := range attempts {
		if err = change(); !errors.Is(err, ErrConflict) {
			return err
		}
		time.Sleep(rand.N(time.Duration(n+1) * time.Millisecond))
	}
	return err
}
