package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// An Engine keeps the records of a Store; open one with package sqlite or package
// postgres.
type Engine = engine.Engine

// Options of a Store. Engine and Key must be set; zero is the default of the others.
// Tombstones, Undelivered and SweepEvery are a hundred years at most.
type Options struct {
	Engine Engine         // keeps the records; the Store closes it, and so does an Open that fails
	Key    StoreKeySource // gives the store key, which seals the records

	KM  string // a name for the key manager under which its keys are stored; it must not change. May be empty
	SAE string // own SAE ID; "" if there is none

	Close Policy // when keys of delivered messages are closed; after:7d

	// Tombstones is how long the store remembers that a key was closed, and who has
	// got its message; 60 days. It must be longer than the age of messages that are
	// accepted: a relay's MaxAge is 30 days.
	Tombstones time.Duration

	// Undelivered is how long after it was stored a key is closed whose message was
	// not delivered, or never came. Zero is never: no key that may still be needed
	// depends on a clock. If set, it must be longer than the age of messages that are
	// accepted.
	Undelivered time.Duration

	// SweepEvery is how often keys are closed whose time has come, and tombstones
	// removed; an hour. Negative is never, for a program that does not know the policy
	// of the others that use the same records.
	SweepEvery time.Duration

	// FetchTimeout is how long a call waits for each fetch from the key manager, and
	// how long storing its keys may take; 2 minutes. The fetch goes on when its callers wait
	// no longer, so that a late answer is stored: the key manager's client has a
	// time-out of its own.
	FetchTimeout time.Duration

	Logger *slog.Logger // for alarms and what goes wrong in the background; may be nil

	// Now is the clock, and Running a time that goes on whatever the clock is set to; nil:
	// the system's. A clock that is given alone is never set.
	Now     func() time.Time
	Running func() time.Duration
}

// A Store is a key manager with a memory; see the package's comment. Its methods
// may be called from several goroutines at the same time.
type Store struct {
	km       kmclient.KeyManager
	records  *sealed.Records
	borrowed bool // records are closed with another Store
	o        Options
	clock    timekeeper
	count    counters

	work    sync.WaitGroup // fetches, and attempts to store what they brought
	quit    chan struct{}  // closed when Close is called
	sweeper sync.WaitGroup
	unsure  atomic.Bool // the last claim may not have been stored

	mu       sync.Mutex
	closed   bool               // nothing is fetched any more
	ended    bool               // Close is done with what waits: nothing can be kept any more
	flights  map[string]*flight // those under way, by keyID
	limits   map[string]limit   // by peer
	waiting  map[string]waiting // keys that could not be stored, by keyID
	flushing *flushing          // that is under way, or nil
	underWay map[sealed.Recipient]*underWay
	retrying bool // a goroutine tries to store what waits, until that is done
}

var (
	_ kmclient.KeyManager = (*Store)(nil)
	_ kmclient.Lister     = (*Store)(nil)
)

// Open opens the store for the keys of km, and makes it if the engine has no records.
// If none of the keys of o.Key is the one that seals them, the error is an ErrStoreKey.
// The Store sweeps until it is closed. It does not close km.
//
// km may be nil, for maintenance: then nothing is fetched, and nothing is swept but by
// Sweep and SweepAll.
func Open(ctx context.Context, km kmclient.KeyManager, o Options) (*Store, error) {
	if o.Engine == nil {
		return nil, fmt.Errorf("%w: a key store needs an engine", kmclient.ErrConfig)
	}
	o.Tombstones = cmp.Or(o.Tombstones, 60*24*time.Hour)
	o.SweepEvery = cmp.Or(o.SweepEvery, time.Hour)
	o.FetchTimeout = cmp.Or(o.FetchTimeout, 2*time.Minute)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if km == nil {
		km, o.SweepEvery = noKM{}, -1
	}
	s := &Store{km: km, o: o, flights: map[string]*flight{}, limits: map[string]limit{}, waiting: map[string]waiting{}, underWay: map[sealed.Recipient]*underWay{}, quit: make(chan struct{})}
	s.clock = newTimekeeper(o.Now, o.Running, o.Logger)
	err := s.checkOptions()
	if err == nil {
		s.records, err = sealed.Open(ctx, o.Engine, o.Key, o.Logger)
	}
	if err != nil {
		_ = o.Engine.Close()
		return nil, fmt.Errorf("open the key store: %w", err)
	}
	if o.SweepEvery > 0 {
		s.sweeper.Go(s.sweepAgain)
	}
	return s, nil
}

func (s *Store) checkOptions() error {
	o := &s.o
	switch {
	case o.Key == nil:
		return fmt.Errorf("%w: Options.Key is not set: the key store needs a store key", kmclient.ErrConfig)
	case o.Tombstones < 0, o.Undelivered < 0, o.FetchTimeout < 0:
		return fmt.Errorf("%w: Tombstones, Undelivered and FetchTimeout must not be negative", kmclient.ErrConfig)
	case o.Tombstones > longest, o.Undelivered > longest, o.SweepEvery > longest:
		return fmt.Errorf("%w: Tombstones, Undelivered and SweepEvery must be a hundred years at most", kmclient.ErrConfig)
	}
	if err := s.name(engine.Receive, "").Check(); err != nil {
		return fmt.Errorf("%w: %w", kmclient.ErrConfig, err)
	}
	return nil
}

// DeletesOnDelivery is false: what was fetched can be fetched again.
func (s *Store) DeletesOnDelivery() bool { return false }

// Warnings returns what is questionable about the server that keeps the records, or
// the way to it, in sentences for the administrator.
func (s *Store) Warnings() []string { return s.records.Engine.Warnings() }

// Status passes through to the key manager.
func (s *Store) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	return s.km.Status(ctx, peer)
}

// Close ends the use of the store. Nothing is fetched afterwards. It waits for fetches
// that are under way, stores the keys that could not be stored before, or returns how
// many of them are lost, stops the sweeps, closes the engine and wipes the store key.
// When ctx ends it waits for the calls of the engine that are under way, and for nothing
// else.
func (s *Store) Close(ctx context.Context) error {
	if s.borrowed {
		return nil
	}
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
	}
	s.mu.Unlock()
	wait(ctx, &s.work)
	err := s.storeLast(ctx)
	wait(ctx, &s.sweeper)
	return errors.Join(err, s.records.Close())
}

// wait waits for what is under way, until ctx ends.
func wait(ctx context.Context, work *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// storeLast stores the keys that wait for it, and wipes those that can't be stored.
func (s *Store) storeLast(ctx context.Context) error {
	err := s.flush(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	lost := len(s.waiting)
	for id, w := range s.waiting {
		w.key.Wipe()
		delete(s.waiting, id)
	}
	if lost > 0 {
		err = fmt.Errorf("%d keys that were fetched could not be stored and are lost: %w", lost, err)
	}
	if n := len(s.flights); n > 0 { // Close did not wait for them
		err = errors.Join(err, fmt.Errorf("%w: keys are still being fetched and will be lost if they come: %d", kmclient.ErrUnavailable, n))
	}
	return err
}
