package keystore

import (
	"context"
	"errors"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// Swept is what SweepAll did, or would do.
type Swept struct {
	Closed     int // keys closed here
	Told       int // closed keys that were closed at the key manager
	Untold     int // closed keys that are still to be closed there, by a later sweep, or would be closed there
	Tombstones int // of keys, removed because of their age
	Messages   int // records of deliveries, removed because of their age
	Damaged    int // records that can't be read, left as they are
}

// SweepAll does to all records what Sweep does only to those that are due. Use it when
// the policy has changed. It postpones nothing that is due sooner. With dryRun it
// changes nothing, and returns what it would do.
func (s *Store) SweepAll(ctx context.Context, dryRun bool) (Swept, error) {
	run := s.newSweep(dryRun)
	var total Swept
	err := run.all(ctx, engine.Receive, &total)
	if err == nil && total.Closed > 0 && !dryRun && !s.km.DeletesOnDelivery() {
		run.untold, total.Damaged = 0, 0 // they are counted again
		err = run.all(ctx, engine.Receive, &total)
	}
	if err == nil {
		err = run.all(ctx, engine.Message, &total)
	}
	err = run.compact(ctx, err)
	total.Told, total.Untold = int(run.told), int(run.untold)
	return total, s.fail(opClose, err)
}

// all processes all records of a kind.
func (run *sweep) all(ctx context.Context, kind engine.Kind, total *Swept) error {
	return run.store.records.Pages(ctx, run.store.name(kind, ""), run.store.within(kind), func(records []*engine.Record) error {
		return run.some(ctx, records, total)
	})
}

// some processes a page of records, due or not.
func (run *sweep) some(ctx context.Context, records []*engine.Record, total *Swept) error {
	var edits []sealed.Edit
	defer func() { sealed.WipeEdits(edits) }()
	run.begin()
	messages := 0
	for _, r := range records {
		e, err := run.edit(ctx, r)
		if errors.Is(err, ErrRecord) {
			total.Damaged++
			continue
		}
		if err != nil {
			return err
		}
		if e.Remove && r.Kind == engine.Message {
			messages++
		}
		later := e.Due.IsZero() || !r.Due.IsZero() && !sealed.WholeSecond(e.Due).Before(r.Due)
		if e.Bare && later {
			continue
		}
		edits = append(edits, e)
	}
	if !run.dryRun {
		if err := run.commit(ctx, edits); err != nil {
			return err
		}
	}
	total.Closed += int(run.closed)
	total.Tombstones += int(run.removed)
	total.Messages += messages
	return nil
}
