package keystore

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// maxPages limits one sweep to a quarter of a million records.
const maxPages = 1024

// kmPause is how long no key is closed at a key manager after that failed.
const kmPause = time.Hour

// sweepAgain sweeps until the store is closed: first after a part of the interval, and
// then about once per interval, at other times than other processes. Failures are
// logged and tried again.
func (s *Store) sweepAgain() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.quit
		cancel()
	}()
	for {
		pause := s.o.SweepEvery/2 + rand.N(s.o.SweepEvery)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.o.Logger.Warn("the key store could not be swept; trying again", "error", err)
		}
	}
}

// Sweep closes the keys that are due, here and at the key manager, removes tombstones,
// and stores keys that could not be stored before. It works in commits of a few hundred
// records. Any number of processes may sweep at the same time.
func (s *Store) Sweep(ctx context.Context) error {
	run := s.newSweep(false)
	err := s.flush(ctx)
	for range maxPages {
		if err != nil {
			break
		}
		var records []*engine.Record
		if records, err = s.records.Engine.Due(ctx, s.o.KM, s.o.SAE, run.now, sealed.Page); err != nil || len(records) == 0 {
			break
		}
		err = run.page(ctx, records)
	}
	err = run.compact(ctx, err)
	if err == nil {
		s.count.swept.Store(&run.now)
	}
	return s.fail(opClose, err)
}

// A sweep is one run.
type sweep struct {
	store   *Store
	now     time.Time
	dryRun  bool // nothing is changed, here or at the key manager
	changed bool
	closed  int64                       // of a page
	removed int64                       // tombstones of a page
	stay    map[engine.Name]sealed.Edit // of a page, for delivery records whose keys stay longer
	told    int64                       // keys closed at the key manager in this run
	untold  int64                       // keys still to be closed there, or that would be
	kmError error                       // why no key is closed there in this run
}

func (s *Store) newSweep(dryRun bool) *sweep {
	run := &sweep{store: s, now: s.clock.early(), dryRun: dryRun}
	if s.km == (noKM{}) {
		run.kmError = errNoKM
	}
	return run
}

// page processes records that are due. If it returns no error, none of them is due any
// more.
func (run *sweep) page(ctx context.Context, records []*engine.Record) error {
	var edits []sealed.Edit
	defer func() { sealed.WipeEdits(edits) }()
	run.begin()
	for _, r := range records {
		e, err := run.edit(ctx, r)
		switch {
		case errors.Is(err, ErrRecord): // of this record, or of one that it names
			run.store.o.Logger.Error("a damaged record is left as it is", "record", r.Name.String(), "cause", err)
			e = sealed.Edit{Old: r, Name: r.Name, Due: run.now.Add(24 * time.Hour), Bare: true}
		case err != nil:
			return err
		}
		edits = append(edits, e)
	}
	edits = run.withStaying(edits)
	return run.commit(ctx, edits)
}

// begin starts a page.
func (run *sweep) begin() { run.closed, run.removed, run.stay = 0, 0, map[engine.Name]sealed.Edit{} }

// commit makes the edits of a page and counts.
func (run *sweep) commit(ctx context.Context, edits []sealed.Edit) error {
	if len(edits) == 0 {
		return nil
	}
	run.changed = true
	_, err := run.store.records.ApplyEach(ctx, edits)
	run.store.records.Overwritten()
	if err != nil {
		return err
	}
	run.store.count.closed.Add(run.closed)
	run.store.count.tombstones.Add(run.removed)
	return nil
}

// compact ends a run, whose outcome so far is err.
func (run *sweep) compact(ctx context.Context, err error) error {
	if run.dryRun || err != nil && !run.changed {
		return err
	}
	return errors.Join(err, run.store.records.Compact(ctx))
}

// edit returns the edit that a sweep makes to a record.
func (run *sweep) edit(ctx context.Context, r *engine.Record) (sealed.Edit, error) {
	later := sealed.Edit{Old: r, Name: r.Name, Bare: true}
	if r.Kind != engine.Receive && r.Kind != engine.Message {
		return later, nil // never due again
	}
	it, err := run.store.records.Open(ctx, r)
	if err != nil {
		return sealed.Edit{}, err
	}
	defer it.Wipe()
	if r.Kind == engine.Message {
		if later.Due, err = run.deliveries(ctx, it); err == nil && later.Due.IsZero() {
			return sealed.Edit{Old: r, Name: r.Name, Remove: true}, nil
		}
		return later, err
	}
	k, err := asKey(it)
	if err != nil {
		return sealed.Edit{}, err
	}
	defer k.wipe()
	if k.state == kmclient.StateClosed {
		return run.tombstone(ctx, k)
	}
	closing, due, err := run.closing(ctx, k)
	if err != nil || !closing {
		later.Due = due
		return later, err
	}
	run.closed++
	e := run.store.closeEdit(k)
	if run.dryRun && k.atKM {
		run.untold++
	}
	return e, nil
}

// closing reports whether to close a key now, or when to look again.
func (run *sweep) closing(ctx context.Context, k *keyRecord) (bool, time.Time, error) {
	msg, err := run.message(ctx, k)
	if err != nil {
		return false, time.Time{}, err
	}
	unused := run.store.dueUnused(k)
	after, never := run.store.o.Close.delay()
	switch {
	case msg == nil && !unused.IsZero() && !unused.After(run.now):
		return true, time.Time{}, nil
	case !k.bound():
		return false, unused, nil
	case never:
		due := run.now.Add(neverLook)
		run.outlive(msg, due)
		return false, due, nil
	case msg == nil:
		due := dueAgain(run.now, k.used)
		if !unused.IsZero() && unused.Before(due) {
			due = unused
		}
		return false, due, nil
	}
	due := msg.first.Add(after)
	if !due.After(run.now) {
		return true, due, nil
	}
	run.outlive(msg, due)
	return false, due, nil
}

// deliveries returns when to look again at a record of deliveries, or zero if it goes
// now. It stays while the message's key is open, or the message could be delivered again;
// the key may be looked at later than the record if the policy has changed or a clock was
// wrong.
func (run *sweep) deliveries(ctx context.Context, it *sealed.Item) (time.Time, error) {
	msg, err := asMessage(it)
	if err != nil {
		return time.Time{}, err
	}
	policy, tombstones := run.store.o.Close, run.store.o.Tombstones
	if _, never := policy.delay(); never {
		return policy.dueMessage(run.now, tombstones), nil
	}
	if due := policy.dueMessage(msg.last, tombstones); due.After(run.now) {
		return due, nil
	}
	items, err := run.store.records.Get(ctx, run.store.name(engine.Receive, msg.key))
	if err != nil || items[0] == nil {
		return time.Time{}, err
	}
	k, err := asKey(items[0])
	if err != nil || k.state == kmclient.StateClosed {
		return time.Time{}, err
	}
	defer k.wipe()
	if run.dryRun { // else it would be closed by now
		if closing, _, err := run.closing(ctx, k); closing || err != nil {
			return time.Time{}, err
		}
	}
	due := k.raw.Due
	if due.Before(run.now) {
		due = run.now
	}
	return due.Add(neverLook), nil
}

// message returns the record of deliveries of a key's message, or nil if there were
// none.
func (run *sweep) message(ctx context.Context, k *keyRecord) (*messageRecord, error) {
	if !k.bound() {
		return nil, nil
	}
	items, err := run.store.records.Get(ctx, run.store.messageName(k.identity))
	if err != nil {
		return nil, err
	}
	return asMessage(items[0])
}

// outlive makes the sweep look at a delivery record, which may be nil, later than at a
// key of its message. Otherwise, after a change of policy, the record could go first,
// and the key would stay as if its message had never been delivered.
func (run *sweep) outlive(msg *messageRecord, due time.Time) {
	if msg == nil {
		return
	}
	if r := msg.raw; !r.Due.After(due) {
		run.stay[r.Name] = sealed.Edit{Old: r, Name: r.Name, Due: due.Add(neverLook), Bare: true}
	}
}

// withStaying returns edits with those for records that must stay, which replace edits
// of the same records.
func (run *sweep) withStaying(edits []sealed.Edit) []sealed.Edit {
	for i, e := range edits {
		if stay, ok := run.stay[e.Name]; ok {
			edits[i] = stay
			delete(run.stay, e.Name)
		}
	}
	return slices.AppendSeq(edits, maps.Values(run.stay))
}

// dueUnused returns when a key goes whose message is not delivered; zero means never.
func (s *Store) dueUnused(k *keyRecord) time.Time {
	if s.o.Undelivered == 0 {
		return time.Time{}
	}
	return k.stored.Add(s.o.Undelivered)
}

// closeEdit removes the bytes of a key and makes it a tombstone. If it has to be closed
// at the key manager, the next look does that.
func (s *Store) closeEdit(k *keyRecord) sealed.Edit {
	now := s.clock.late()
	k.wipe()
	k.bytes = nil
	k.state, k.closed, k.atKM = kmclient.StateClosed, now, !s.km.DeletesOnDelivery()
	due := time.Unix(1, 0) // at once
	if !k.atKM {
		due = now.Add(s.o.Tombstones)
	}
	return s.editKey(k, due)
}

// tombstone closes a key at the key manager, if that has not been done, and removes the
// tombstone when it is due.
func (run *sweep) tombstone(ctx context.Context, k *keyRecord) (sealed.Edit, error) {
	end := k.closed.Add(run.store.o.Tombstones)
	switch {
	case !end.After(run.now):
		run.removed++
		return sealed.Edit{Old: k.raw, Name: k.raw.Name, Remove: true}, nil
	case !k.atKM:
		return sealed.Edit{Old: k.raw, Name: k.raw.Name, Due: end, Bare: true}, nil
	case run.dryRun:
		run.untold++
		return sealed.Edit{Old: k.raw, Name: k.raw.Name, Due: k.raw.Due, Bare: true}, nil
	}
	if run.kmError == nil {
		run.kmError = run.store.tellKM(ctx, k)
		if run.kmError != nil && ctx.Err() != nil {
			return sealed.Edit{}, kmclient.Canceled(ctx)
		}
		if run.kmError != nil {
			run.store.o.Logger.Warn("keys could not be closed at the key manager; trying again", "in", kmPause, "error", run.kmError)
		}
	}
	if run.kmError != nil {
		run.untold++
		return sealed.Edit{Old: k.raw, Name: k.raw.Name, Due: run.now.Add(min(kmPause, run.store.o.Tombstones)), Bare: true}, nil
	}
	run.told++
	k.atKM = false
	return run.store.editKey(k, end), nil
}

// tellKM closes a key at the key manager. It is fine if the key manager no longer has
// the key.
func (s *Store) tellKM(ctx context.Context, k *keyRecord) error {
	err := s.km.CloseKey(ctx, k.spelled)
	if err != nil && !errors.Is(err, kmclient.ErrKeyNotFound) && !errors.Is(err, kmclient.ErrUnsupported) {
		return err
	}
	s.count.closedAtKM.Add(1)
	return nil
}
