package sealed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
)

// Rotate seals all records with another store key. If it is interrupted, call it again
// with the same key.
func (s *Records) Rotate(ctx context.Context, newKey storekey.Key) error {
	if err := newKey.Check(); err != nil {
		return err
	}
	number, err := s.beginRotation(ctx, newKey)
	if err != nil {
		return fmt.Errorf("change the store key: %w", err)
	}
	for _, kind := range Kinds() {
		for all := false; err == nil && !all; {
			all, err = s.resealAll(ctx, kind, number)
		}
	}
	if err == nil {
		err = s.endRotation(ctx, number)
	}
	if err != nil {
		return fmt.Errorf("the change of the store key is not complete, call Rotate again with the same key: %w", err)
	}
	s.Overwritten()
	return s.Compact(ctx)
}

// beginRotation makes newKey the one that seals, and returns its number. If the store
// has it already, beginRotation continues an earlier call.
func (s *Records) beginRotation(ctx context.Context, newKey storekey.Key) (uint32, error) {
	s.mu.Lock()
	s.addKey(newKey)
	s.mu.Unlock()
	if err := s.reload(ctx); err != nil {
		return 0, err
	}
	s.mu.RLock()
	record, last, rcptKey := s.head, s.current, s.rcptKey
	s.mu.RUnlock()
	h, err := decodeHead(record)
	if err != nil {
		return 0, err
	}
	if _, _, err := newKey.Open(h.place(), h.last().Check); err == nil {
		return last, nil
	}
	if len(h.Generations) > 1 {
		return 0, fmt.Errorf("%w: an earlier change, to another key, must be completed first", ErrStoreKey)
	}
	check, err := newKey.Seal(h.place(), last+1, 0, rcptKey)
	if err != nil {
		return 0, err
	}
	h.Generations = append(h.Generations, generation{Number: last + 1, Check: check})
	if err := s.writeHead(ctx, record, h); err != nil {
		return 0, err
	}
	return last + 1, s.reload(ctx)
}

// resealAll seals the records of a kind, and reports whether all of them are now sealed
// with the new key. No record is added under the old key while it runs, but one that is
// changed meanwhile may still be under it: a Bare edit keeps the value.
func (s *Records) resealAll(ctx context.Context, kind engine.Kind, number uint32) (all bool, err error) {
	all = true
	var edits []Edit
	flush := func() error {
		made, err := s.ApplyEach(ctx, edits)
		all = all && made
		WipeEdits(edits)
		edits = nil
		return err
	}
	within := func(n engine.Name) bool { return n.Kind == kind }
	err = s.Each(ctx, engine.Name{Kind: kind}, within, func(r *engine.Record, it *Item, err error) error {
		if err != nil { // it can't be opened with the old key either
			s.logger.Error("a damaged record is left as it is", "record", r.Name.String())
			return nil
		}
		if g, _ := storekey.Generation(r.Value); g == number {
			return nil
		}
		edits = append(edits, Edit{Old: r, Name: r.Name, Due: r.Due, State: it.State, Plain: slices.Clone(it.Plain)})
		if len(edits) < Page {
			return nil
		}
		return flush()
	})
	err = errors.Join(err, flush())
	return all, err
}

// endRotation forgets the old key.
func (s *Records) endRotation(ctx context.Context, number uint32) error {
	s.mu.RLock()
	record := s.head
	s.mu.RUnlock()
	h, err := decodeHead(record)
	if err != nil {
		return err
	}
	if h.last().Number != number {
		return fmt.Errorf("%w: another process has changed it meanwhile", ErrStoreKey)
	}
	if len(h.Generations) > 1 {
		h.Generations = []generation{h.last()}
		if err := s.writeHead(ctx, record, h); err != nil {
			return err
		}
	}
	return s.reload(ctx)
}
