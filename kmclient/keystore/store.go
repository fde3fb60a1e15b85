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

// Options configure a Store. Engine and Key must be set; the zero value of any other
// field means its default. Tombstones, Undelivered and SweepEvery are at most a hundred
// years.
type Options struct {
	Engine Engine         // keeps the records; Store.Close closes it, and so does Open if it fails
	Key    StoreKeySource // gives the store key, which seals the records

	KM  string // the name under which the key manager's keys are stored; it must not change. May be empty
	SAE string // own SAE ID; "" if there is none

	Close Policy // when keys of delivered messages are closed; default after:7d

	// Tombstones is how long the store remembers that a key was closed, and who has
	// received its message; default 60 days. It must be longer than the greatest
	// accepted age of messages: a relay's MaxAge is 30 days.
	Tombstones time.Duration

	// Undelivered is how long after storing it a key is closed if its message was not
	// delivered, or never came. Zero means never: no key that may still be needed
	// depends on a clock. If set, it must be longer than the greatest accepted age of
	// messages.
	Undelivered time.Duration

	// SweepEvery is how often due keys are closed and tombstones removed; default an
	// hour. Negative means never, for a program that does not know the policy of others
	// that use the same records.
	SweepEvery time.Duration

	// FetchTimeout is how long a call waits for each fetch from the key manager, and
	// how long storing the fetched keys may take; default 2 minutes. The fetch goes on
	// when its callers stop waiting, so that a late answer is stored: the key manager's
	// client has its own time-out.
	FetchTimeout time.Duration

	Logger *slog.Logger // for alarms and background errors; may be nil

	// Now is the clock, and Running a time that goes on whatever the clock is set to;
	// nil: the system's. If only Now is given, it counts as a clock that is never set.
	Now     func() time.Time
	Running func() time.Duration
}

// A Store is a key manager with a memory; see the package comment. Its methods may be
// called from several goroutines at the same time.
type Store struct {
	km       kmclient.KeyManager
	records  *sealed.Records
	borrowed bool // the records belong to another Store, which closes them
	o        Options
	clock    timekeeper
	count    counters

	work    sync.WaitGroup // fetches, and attempts to store their keys
	quit    chan struct{}  // closed when Close is called
	sweeper sync.WaitGroup
	unsure  atomic.Bool // the last claim may not have been stored

	mu       sync.Mutex
	closed   bool               // nothing is fetched any more
	ended    bool               // Close is done with waiting keys: nothing can be kept any more
	flights  map[string]*flight // fetches under way, by keyID
	limits   map[string]limit   // by peer
	waiting  map[string]waiting // keys that could not be stored, by keyID
	flushing *flushing          // the one under way, or nil
	underWay map[sealed.Recipient]*underWay
	retrying bool // a goroutine is trying to store the waiting keys
}

var (
	_ kmclient.KeyManager = (*Store)(nil)
	_ kmclient.Lister     = (*Store)(nil)
)

// Open opens the store for the keys of km, and makes it if the engine has no records.
// If none of the keys from o.Key is the one that seals them, the error is ErrStoreKey.
// The Store sweeps until it is closed. It does not close km.
//
// km may be nil, for maintenance: then nothing is fetched, and only Sweep and SweepAll
// sweep.
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

// DeletesOnDelivery returns false: what was fetched can be fetched again.
func (s *Store) DeletesOnDelivery() bool { return false }

// Warnings returns what is questionable about the server that keeps the records or the
// connection to it, in sentences for the administrator.
func (s *Store) Warnings() []string { return s.records.Engine.Warnings() }

// Status passes through to the key manager.
func (s *Store) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	return s.km.Status(ctx, peer)
}

// Close ends the use of the store. Nothing is fetched afterwards. Close waits for
// fetches under way and stores the keys that could not be stored before, or returns how
// many of them are lost. It stops the sweeps, closes the engine and wipes the store
// key. Once ctx ends, it waits only for engine calls under way.
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

// storeLast stores the waiting keys, and wipes those that can't be stored.
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
