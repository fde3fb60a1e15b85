package sealed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
)

// An Item is a record with its unsealed content.
type Item struct {
	*engine.Record
	State byte
	Plain []byte // whoever takes it clears it
}

// Wipe clears the unsealed content of an item, which may be nil.
func (it *Item) Wipe() {
	if it != nil {
		clear(it.Plain)
	}
}

// Get returns the records with these names, with nil for one that is not there. A claim
// has no content.
func (s *Records) Get(ctx context.Context, names ...engine.Name) ([]*Item, error) {
	records, err := s.Engine.Get(ctx, names...)
	if err != nil {
		return nil, err
	}
	return s.openAll(ctx, records)
}

// GetReady is Get for a caller that may go on to fetch what can't be had again. It
// fails if the current store key, which will seal that, is not known, so that nothing
// is fetched in vain.
func (s *Records) GetReady(ctx context.Context, names ...engine.Name) ([]*Item, error) {
	records, err := s.Engine.Get(ctx, append(slices.Clone(names), headName())...)
	if err != nil {
		return nil, err
	}
	if err := s.follow(ctx, records[len(names)]); err != nil {
		return nil, err
	}
	return s.openAll(ctx, records[:len(names)])
}

// openAll opens records, of which some may be nil.
func (s *Records) openAll(ctx context.Context, records []*engine.Record) (items []*Item, err error) {
	items = make([]*Item, len(records))
	for i, r := range records {
		if r == nil {
			continue
		}
		if r.Kind == engine.Claim {
			items[i] = &Item{Record: r}
			continue
		}
		if items[i], err = s.Open(ctx, r); err != nil {
			for _, it := range items[:i] {
				it.Wipe()
			}
			return nil, err
		}
	}
	return items, nil
}

// Open opens a record. If the record was sealed with a store key that is new to this
// process, Open looks for that key.
func (s *Records) Open(ctx context.Context, r *engine.Record) (*Item, error) {
	number, err := storekey.Generation(r.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	id, key, ok := s.keyOf(number)
	if !ok {
		if err := s.reload(ctx); err != nil {
			return nil, err
		}
		if id, key, ok = s.keyOf(number); !ok {
			return nil, fmt.Errorf("%w: %v: sealed with an unknown key", ErrRecord, r.Name)
		}
	}
	it := &Item{Record: r}
	if it.State, it.Plain, err = key.Open(storekey.Place{Store: id, Name: r.Name.Parts()}, r.Value); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	return it, nil
}

func (s *Records) keyOf(number uint32) (id []byte, key storekey.Key, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, ok = s.byGen[number]
	return s.id, key, ok
}

// Page is how many records are processed at a time.
const Page = 256

// Pages calls use with the records that follow a name, a page at a time and in
// the order of their names, up to the first that is not within.
func (s *Records) Pages(ctx context.Context, after engine.Name, within func(engine.Name) bool, use func([]*engine.Record) error) error {
	for {
		records, err := s.Engine.List(ctx, after, Page)
		if err != nil {
			return err
		}
		if n := slices.IndexFunc(records, func(r *engine.Record) bool { return !within(r.Name) }); n >= 0 {
			records = records[:n]
		}
		if err := use(records); err != nil || len(records) < Page {
			return err
		}
		after = records[Page-1].Name
	}
}

// Each is Pages, with one record at a time. Records that can't be opened come with an
// error. It clears the items.
func (s *Records) Each(ctx context.Context, after engine.Name, within func(engine.Name) bool, use func(*engine.Record, *Item, error) error) error {
	return s.Pages(ctx, after, within, func(records []*engine.Record) error {
		for _, r := range records {
			it, err := s.Open(ctx, r)
			if err != nil && !errors.Is(err, ErrRecord) {
				return err
			}
			err = use(r, it, err)
			it.Wipe()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Kinds are the kinds of records that have a sealed value.
func Kinds() []engine.Kind { return []engine.Kind{engine.Receive, engine.Message} }
