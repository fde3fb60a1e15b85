// Package memory keeps the records of a key store in memory, for tests: they are gone
// with the process.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// Records hold records. Engines on the same Records share them, as processes share a
// file.
type Records struct {
	mu      sync.Mutex
	records map[engine.Name]*engine.Record
	due     map[engine.Name]*engine.Record // the records that have a Due
	version int64
}

// limits are low, so that tests reach them.
var limits = engine.Limits{Changes: 16, Bytes: 2 << 20}

// New returns an empty place.
func New() *Records {
	return &Records{records: map[engine.Name]*engine.Record{}, due: map[engine.Name]*engine.Record{}}
}

// Open returns an engine on the records; there may be several. around is called for
// each operation that reads ("get", "list", "due", "check") or changes ("apply",
// "compact") records, and is given a function that does it: around can wait, fail
// before or after, or not do it at all. If around is nil, the operation is just done.
func (m *Records) Open(around func(op string, do func() error) error) engine.Engine {
	if around == nil {
		around = func(_ string, do func() error) error { return do() }
	}
	return &memoryEngine{m: m, around: around}
}

// Copy returns a copy of the records, like a backup. Whatever is written after a Copy
// has a different version from the record that it replaces.
func (m *Records) Copy() *Records {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Records{records: maps.Clone(m.records), due: maps.Clone(m.due), version: m.version + 1<<32}
}

// Len returns how many records there are, apart from claims, which are kept forever.
func (m *Records) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for name := range m.records {
		if name.Kind != engine.Claim {
			n++
		}
	}
	return n
}

// Has reports whether there is a record of a kind with an ID, for a key manager and an
// SAE.
func (m *Records) Has(kind, km, sae, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[engine.Name{Kind: engine.Kind(kind), KM: km, SAE: sae, ID: id}] != nil
}

type memoryEngine struct {
	m      *Records
	around func(op string, do func() error) error
	closed bool // guarded by m.mu
}

// do does an operation, unless the engine can't be used.
func (e *memoryEngine) do(ctx context.Context, op string, f func() error) error {
	return e.around(op, func() error {
		if ctx.Err() != nil {
			return kmclient.Canceled(ctx)
		}
		e.m.mu.Lock()
		defer e.m.mu.Unlock()
		if e.closed {
			return fmt.Errorf("%w: closed", kmclient.ErrStore)
		}
		return f()
	})
}

func (e *memoryEngine) Get(ctx context.Context, names ...engine.Name) ([]*engine.Record, error) {
	records := make([]*engine.Record, len(names))
	err := e.do(ctx, "get", func() error {
		for i, n := range names {
			records[i] = e.m.records[n]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

func (e *memoryEngine) Apply(ctx context.Context, changes ...engine.Change) error {
	return e.do(ctx, "apply", func() error { return e.m.apply(changes) })
}

// apply makes changes; m.mu must be held.
func (m *Records) apply(changes []engine.Change) error {
	if len(changes) > limits.Changes {
		return fmt.Errorf("%w: %d changes, of which one Apply takes %d", kmclient.ErrStore, len(changes), limits.Changes)
	}
	for _, c := range changes {
		now := m.records[c.Name()]
		if (now == nil) != (c.Old == nil) || now != nil && now.Version != c.Old.Version {
			return fmt.Errorf("%w: %v", engine.ErrConflict, c.Name())
		}
	}
	for _, c := range changes {
		if c.New != nil && c.New == c.Old {
			continue
		}
		delete(m.records, c.Name())
		delete(m.due, c.Name())
		if c.New == nil {
			continue
		}
		m.version++
		c.New.Version = m.version
		n := *c.New
		n.Value = slices.Clone(n.Value)
		m.records[n.Name] = &n
		if !n.Due.IsZero() {
			m.due[n.Name] = &n
		}
	}
	return nil
}

// sorted returns at most limit of the records that match, in order.
func sorted(records map[engine.Name]*engine.Record, limit int, match func(*engine.Record) bool, order func(a, b *engine.Record) int) []*engine.Record {
	var found []*engine.Record
	for _, r := range records {
		if match(r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, order)
	return found[:min(len(found), limit)]
}

func (e *memoryEngine) List(ctx context.Context, after engine.Name, limit int) (found []*engine.Record, err error) {
	err = e.do(ctx, "list", func() error {
		found = sorted(e.m.records, limit,
			func(r *engine.Record) bool { return r.Compare(after) > 0 },
			func(a, b *engine.Record) int { return a.Compare(b.Name) })
		return nil
	})
	return found, err
}

func (e *memoryEngine) Due(ctx context.Context, km, sae string, now time.Time, limit int) (found []*engine.Record, err error) {
	err = e.do(ctx, "due", func() error {
		found = sorted(e.m.due, limit,
			func(r *engine.Record) bool { return r.KM == km && r.SAE == sae && !r.Due.After(now) },
			func(a, b *engine.Record) int { return cmp.Or(a.Due.Compare(b.Due), a.Compare(b.Name)) })
		return nil
	})
	return found, err
}

func (e *memoryEngine) Compact(ctx context.Context) error {
	return e.do(ctx, "compact", func() error { return nil })
}

func (e *memoryEngine) Check(ctx context.Context) error {
	return e.do(ctx, "check", func() error { return nil })
}

func (e *memoryEngine) Warnings() []string { return nil }

func (e *memoryEngine) Limits() engine.Limits { return limits }

func (e *memoryEngine) Close() error {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	e.closed = true
	return nil
}
