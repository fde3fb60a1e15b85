// Package storetest tests the engines of a key store. For other tests it has an engine
// that keeps its records in memory, and one end of a QKD link.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// A Memory is a place for records that is gone with the process.
type Memory struct {
	mu      sync.Mutex
	records map[engine.Name]*engine.Record
	version int64
	limits  engine.Limits
}

// NewMemory returns an empty place.
func NewMemory() *Memory {
	return &Memory{
		records: map[engine.Name]*engine.Record{},
		limits:  engine.Limits{Changes: 16, Bytes: 2 << 20}, // low, so that tests meet them
	}
}

// Open returns an engine on the records of m; there may be several.
func (m *Memory) Open() engine.Engine { return &memoryEngine{m: m} }

type memoryEngine struct {
	m      *Memory
	closed bool // guarded by m.mu
}

// enter takes the lock, unless the engine can't be used.
func (e *memoryEngine) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return kmclient.Canceled(ctx)
	}
	e.m.mu.Lock()
	if e.closed {
		e.m.mu.Unlock()
		return fmt.Errorf("%w: closed", kmclient.ErrStore)
	}
	return nil
}

func (e *memoryEngine) Get(ctx context.Context, names ...engine.Name) ([]*engine.Record, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.m.mu.Unlock()
	records := make([]*engine.Record, len(names))
	for i, n := range names {
		records[i] = e.m.records[n]
	}
	return records, nil
}

func (e *memoryEngine) Apply(ctx context.Context, changes ...engine.Change) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.m.mu.Unlock()
	if l := e.m.limits; len(changes) > l.Changes {
		return fmt.Errorf("%w: %d changes, of which one Apply takes %d", kmclient.ErrStore, len(changes), l.Changes)
	}
	for _, c := range changes {
		now := e.m.records[c.Name()]
		if (now == nil) != (c.Old == nil) || now != nil && now.Version != c.Old.Version {
			return fmt.Errorf("%w: %v", engine.ErrConflict, c.Name())
		}
	}
	for _, c := range changes {
		switch c.New {
		case nil:
			delete(e.m.records, c.Name())
		case c.Old:
		default:
			e.m.version++
			c.New.Version = e.m.version
			n := *c.New
			n.Value = slices.Clone(n.Value)
			e.m.records[n.Name] = &n
		}
	}
	return nil
}

// sorted returns the records that match, sorted, limit of them at most.
func (e *memoryEngine) sorted(ctx context.Context, limit int, match func(*engine.Record) bool,
	order func(a, b *engine.Record) int) ([]*engine.Record, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.m.mu.Unlock()
	var records []*engine.Record
	for _, r := range e.m.records {
		if match(r) {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, order)
	return records[:min(len(records), limit)], nil
}

func (e *memoryEngine) List(ctx context.Context, after engine.Name, limit int) ([]*engine.Record, error) {
	return e.sorted(ctx, limit,
		func(r *engine.Record) bool { return r.Compare(after) > 0 },
		func(a, b *engine.Record) int { return a.Compare(b.Name) })
}

func (e *memoryEngine) Due(ctx context.Context, km, sae string, now time.Time, limit int) ([]*engine.Record, error) {
	return e.sorted(ctx, limit,
		func(r *engine.Record) bool {
			return r.KM == km && r.SAE == sae && !r.Due.IsZero() && !r.Due.After(now)
		},
		func(a, b *engine.Record) int { return a.Due.Compare(b.Due) })
}

func (e *memoryEngine) Compact(ctx context.Context) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	e.m.mu.Unlock()
	return nil
}

func (e *memoryEngine) Check(context.Context) error { return nil }

func (e *memoryEngine) Warnings() []string { return nil }

func (e *memoryEngine) Limits() engine.Limits { return e.m.limits }

func (e *memoryEngine) Close() error {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	e.closed = true
	return nil
}
