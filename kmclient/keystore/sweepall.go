package keystore

import (
	"context"
	"errors"
)

// Swept says what SweepAll has done, or would do.
type Swept struct {
	Closed     int // keys closed here
	Told       int // closed keys that the key manager was told of
	Untold     int // closed keys that it is still to be told of, which a later sweep does, or would be told of
	Tombstones int // of keys, removed for their age
	Messages   int // records of deliveries, removed for their age
	Damaged    int // records that can't be read, left as they are
}

// SweepAll does what Sweep does to all records, and not only to those whose time
// an earlier policy has set: it is for a policy that has changed. It postpones
// nothing that an earlier one would look at sooner. With dryRun it changes
// nothing, and says what it would do.
func (m *Manager) SweepAll(ctx context.Context, dryRun bool) (Swept, error) {
	s := &sweep{m: m, now: m.clock.early(), dryRun: dryRun}
	var total Swept
	err := s.all(ctx, KindReceive, &total)
	if err == nil && total.Closed > 0 && !dryRun && !m.km.DeletesOnDelivery() {
		s.untold, total.Damaged = 0, 0 // they are counted once more
		err = s.all(ctx, KindReceive, &total)
	}
	if err == nil {
		err = s.all(ctx, KindMessage, &total)
	}
	err = s.compact(ctx, err)
	total.Told, total.Untold = int(s.told), int(s.untold)
	return total, m.fail(opClose, err)
}

// all works on all records of a kind.
func (s *sweep) all(ctx context.Context, kind Kind, total *Swept) error {
	return s.m.vault.pages(ctx, s.m.name(kind, ""), s.m.within(kind), func(records []*Record) error {
		return s.some(ctx, records, total)
	})
}

// some works on a page of records, due or not.
func (s *sweep) some(ctx context.Context, records []*Record, total *Swept) error {
	var edits []edit
	defer func() { wipeEdits(edits) }()
	s.begin()
	messages := 0
	for _, r := range records {
		e, err := s.edit(ctx, r)
		if errors.Is(err, ErrRecord) {
			total.Damaged++
			continue
		}
		if err != nil {
			return err
		}
		if e.remove && r.Kind == KindMessage {
			messages++
		}
		later := e.due.IsZero() || !r.Due.IsZero() && !wholeSecond(e.due).Before(r.Due)
		if e.bare && later {
			continue
		}
		edits = append(edits, e)
	}
	if !s.dryRun {
		if err := s.commit(ctx, edits); err != nil {
			return err
		}
	}
	total.Closed += int(s.closed)
	total.Tombstones += int(s.removed)
	total.Messages += messages
	return nil
}
