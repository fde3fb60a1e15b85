// Package storetest tests the engines behind [keystore.Store]. It has an engine
// that keeps its records in memory, and one end of a QKD link, for tests.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A Memory is a place for records that is gone with the process: for tests, and
// for programs that want the rules of a keystore but no durability.
type Memory struct {
	mu      sync.Mutex
	records map[keystore.Name]*keystore.Record
	version int64
	limits  keystore.Limits
}

// NewMemory returns an empty place.
func NewMemory() *Memory {
	return &Memory{
		records: map[keystore.Name]*keystore.Record{},
		limits:  keystore.Limits{Changes: 16, Octets: 2 << 20}, // low, so that tests meet them
	}
}

// Open returns a store on the records of m; there may be several.
func (m *Memory) Open() keystore.Store { return &memoryStore{m: m} }

type memoryStore struct {
	m      *Memory
	closed bool // guarded by m.mu
}

// enter takes the lock, unless the store can't be used.
func (s *memoryStore) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return kmclient.GaveUp(ctx)
	}
	s.m.mu.Lock()
	if s.closed {
		s.m.mu.Unlock()
		return fmt.Errorf("%w: closed", kmclient.ErrStore)
	}
	return nil
}

func (s *memoryStore) Get(ctx context.Context, names ...keystore.Name) ([]*keystore.Record, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.m.mu.Unlock()
	records := make([]*keystore.Record, len(names))
	for i, n := range names {
		records[i] = s.m.records[n]
	}
	return records, nil
}

func (s *memoryStore) Apply(ctx context.Context, changes ...keystore.Change) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.m.mu.Unlock()
	if l := s.m.limits; len(changes) > l.Changes {
		return fmt.Errorf("%w: %d changes, of which one Apply takes %d", kmclient.ErrStore, len(changes), l.Changes)
	}
	for _, c := range changes {
		now := s.m.records[c.Name()]
		if (now == nil) != (c.Old == nil) || now != nil && now.Version != c.Old.Version {
			return fmt.Errorf("%w: %v", keystore.ErrConflict, c.Name())
		}
	}
	for _, c := range changes {
		switch c.New {
		case nil:
			delete(s.m.records, c.Name())
		case c.Old:
		default:
			s.m.version++
			c.New.Version = s.m.version
			n := *c.New
			n.Value = slices.Clone(n.Value)
			s.m.records[n.Name] = &n
		}
	}
	return nil
}

// sorted returns the records that match, in an order, limit of them at most.
func (s *memoryStore) sorted(ctx context.Context, limit int, match func(*keystore.Record) bool,
	order func(a, b *keystore.Record) int) ([]*keystore.Record, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.m.mu.Unlock()
	var records []*keystore.Record
	for _, r := range s.m.records {
		if match(r) {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, order)
	return records[:min(len(records), limit)], nil
}

func (s *memoryStore) List(ctx context.Context, after keystore.Name, limit int) ([]*keystore.Record, error) {
	return s.sorted(ctx, limit,
		func(r *keystore.Record) bool { return r.Compare(after) > 0 },
		func(a, b *keystore.Record) int { return a.Compare(b.Name) })
}

func (s *memoryStore) Due(ctx context.Context, km, sae string, now time.Time, limit int) ([]*keystore.Record, error) {
	return s.sorted(ctx, limit,
		func(r *keystore.Record) bool {
			return r.KM == km && r.SAE == sae && !r.Due.IsZero() && !r.Due.After(now)
		},
		func(a, b *keystore.Record) int { return a.Due.Compare(b.Due) })
}

func (s *memoryStore) Compact(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.m.mu.Unlock()
	return nil
}

func (s *memoryStore) Limits() keystore.Limits { return s.m.limits }

func (s *memoryStore) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.closed = true
	return nil
}
