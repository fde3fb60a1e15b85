package sealed

import (
	"context"
	"errors"
	"sync"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// Bounds of what waits to be taken: when they are reached, all of it is forgotten.
const (
	maxHanded      = 1024
	maxHandedBytes = 4 << 20 // of values
)

// ErrNotHanded: a record was not handed over, or has since been taken or forgotten.
var ErrNotHanded = errors.New("record not handed over")

// A handover holds records that one step of a message has read or written, sealed as
// they are in the store. The next step takes them out and need not read them again.
// Other processes may have changed a record in between, so it is good for only two
// things: as the Old of a change, which the engine compares with what it has, and for a
// fact that never changes: that a key belongs to a message.
type handover struct {
	mu      sync.Mutex
	records map[engine.Name]*engine.Record // nil: there is no record with that name
	size    int                            // of the values
}

func (h *handover) put(n engine.Name, r *engine.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(n)
	if len(h.records) == maxHanded || h.size+valueSize(r) > maxHandedBytes {
		h.records, h.size = nil, 0
	}
	if h.records == nil {
		h.records = map[engine.Name]*engine.Record{}
	}
	h.records[n] = r
	h.size += valueSize(r)
}

// take returns records, and takes them out; all of them or none.
func (h *handover) take(names []engine.Name) ([]*engine.Record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	records := make([]*engine.Record, len(names))
	for i, n := range names {
		r, ok := h.records[n]
		if !ok {
			return nil, false
		}
		records[i] = r
	}
	for _, n := range names {
		h.drop(n)
	}
	return records, true
}

func (h *handover) forget(n engine.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(n)
}

// drop takes a record out. h.mu must be held.
func (h *handover) drop(n engine.Name) {
	h.size -= valueSize(h.records[n])
	delete(h.records, n)
}

// clear forgets all records.
func (h *handover) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.size = nil, 0
}

func valueSize(r *engine.Record) int {
	if r == nil {
		return 0
	}
	return len(r.Value)
}

// HandOver hands a record, as returned by Get, over to the next step; nil if there is
// none with that name.
func (s *Records) HandOver(n engine.Name, r *engine.Record) { s.handed.put(n, r) }

// Take is Get for records that were handed over. If they were not, the error is
// ErrNotHanded.
func (s *Records) Take(ctx context.Context, names ...engine.Name) ([]*Item, error) {
	records, ok := s.handed.take(names)
	if !ok {
		return nil, ErrNotHanded
	}
	items, err := s.openAll(ctx, records)
	if errors.Is(err, ErrRecord) { // the store key was replaced
		err = ErrNotHanded
	}
	return items, err
}
