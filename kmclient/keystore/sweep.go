package keystore

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// maxPages bounds one sweep, to a quarter of a million records.
const maxPages = 1024

// kmPause is how long a key manager is not told of closed keys after it could
// not be.
const kmPause = time.Hour

// SweepEvery sweeps until ctx ends: the first time after a part of interval,
// and then about once in each, at times that differ from those of other
// processes. What fails is logged and tried again.
func (m *Manager) SweepEvery(ctx context.Context, interval time.Duration) {
	for {
		pause := interval/2 + rand.N(max(interval, 1))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := m.Sweep(ctx); err != nil && ctx.Err() == nil {
			m.o.Logger.Warn("the key store could not be swept; trying again", "error", err)
		}
	}
}

// Sweep closes the keys whose time has come, here and at the key manager,
// removes tombstones, and stores keys that could not be stored before. It works
// in commits of some hundred records, and as many processes may do so as like.
func (m *Manager) Sweep(ctx context.Context) error {
	s := &sweep{m: m, now: m.clock.early()}
	err := m.flush(ctx)
	for range maxPages {
		if err != nil {
			break
		}
		var records []*Record
		if records, err = m.vault.store.Due(ctx, m.o.KM, m.o.SAE, s.now, page); err != nil || len(records) == 0 {
			break
		}
		err = s.page(ctx, records)
	}
	err = s.compact(ctx, err)
	if err == nil {
		m.count.swept.Store(&s.now)
	}
	return m.fail(opClose, err)
}

// A sweep is one run.
type sweep struct {
	m       *Manager
	now     time.Time
	dryRun  bool // nothing is changed, and the key manager not told
	changed bool
	closed  int64         // of a page
	removed int64         // tombstones of a page
	stay    map[Name]edit // of a page, for records of deliveries whose keys stay longer
	told    int64         // keys that the key manager was told of, in this run
	untold  int64         // keys that it is still to be told of, or would be
	kmError error         // why the key manager is not told in this run
}

// page works on records that are due. After that none of them is, or an error
// says why.
func (s *sweep) page(ctx context.Context, records []*Record) error {
	var edits []edit
	defer func() { wipeEdits(edits) }()
	s.begin()
	for _, r := range records {
		e, err := s.edit(ctx, r)
		switch {
		case errors.Is(err, ErrRecord):
			s.m.o.Logger.Error("a damaged record is left as it is", "record", r.Name.String())
			e = edit{old: r, name: r.Name, due: s.now.Add(24 * time.Hour), bare: true}
		case err != nil:
			return err
		}
		edits = append(edits, e)
	}
	edits = s.withStaying(edits)
	return s.commit(ctx, edits)
}

// begin begins a page.
func (s *sweep) begin() { s.closed, s.removed, s.stay = 0, 0, map[Name]edit{} }

// commit makes the edits of a page and counts.
func (s *sweep) commit(ctx context.Context, edits []edit) error {
	if len(edits) == 0 {
		return nil
	}
	s.changed = true
	err := s.m.vault.applyEach(ctx, edits)
	s.m.vault.compacted.Store(false)
	if err != nil {
		return err
	}
	s.m.count.closed.Add(s.closed)
	s.m.count.tombstones.Add(s.removed)
	return nil
}

// compact ends a run, whose outcome so far is err.
func (s *sweep) compact(ctx context.Context, err error) error {
	if s.dryRun || err != nil && !s.changed {
		return err
	}
	return errors.Join(err, s.m.vault.compact(ctx))
}

// edit returns what becomes of a record.
func (s *sweep) edit(ctx context.Context, r *Record) (edit, error) {
	later := edit{old: r, name: r.Name, bare: true}
	if r.Kind != KindReceive && r.Kind != KindMessage {
		return later, nil // never due again
	}
	it, err := s.m.vault.unseal(ctx, r)
	if err != nil {
		return edit{}, err
	}
	defer it.wipe()
	if r.Kind == KindMessage {
		msg, err := it.asMessage()
		if err != nil {
			return edit{}, err
		}
		if _, never := s.m.o.Close.delay(); never {
			later.due = s.m.o.Close.dueMessage(s.now, s.m.o.Tombstones)
		} else if later.due = s.m.o.Close.dueMessage(msg.last, s.m.o.Tombstones); !later.due.After(s.now) {
			return edit{old: r, name: r.Name, remove: true}, nil
		}
		return later, nil
	}
	k, err := it.asKey()
	if err != nil {
		return edit{}, err
	}
	defer k.wipe()
	if k.state == kmclient.StateClosed {
		return s.tombstone(ctx, k)
	}
	closing, due, err := s.closing(ctx, k)
	if err != nil || !closing {
		later.due = due
		return later, err
	}
	s.closed++
	e := s.m.closeEdit(k)
	if s.dryRun && k.atKM {
		s.untold++
	}
	return e, nil
}

// closing reports whether a key is to be closed now, or when to look again.
func (s *sweep) closing(ctx context.Context, k *keyRecord) (bool, time.Time, error) {
	msg, record, err := s.message(ctx, k)
	if err != nil {
		return false, time.Time{}, err
	}
	unused := s.m.dueUnused(k)
	after, never := s.m.o.Close.delay()
	switch {
	case msg == nil && !unused.IsZero() && !unused.After(s.now):
		return true, time.Time{}, nil
	case !k.bound():
		return false, unused, nil
	case never:
		due := s.now.Add(neverLook)
		s.outlive(record, due)
		return false, due, nil
	case msg == nil:
		due := dueAgain(s.now, k.used)
		if !unused.IsZero() && unused.Before(due) {
			due = unused
		}
		return false, due, nil
	}
	due := msg.first.Add(after)
	if !due.After(s.now) {
		return true, due, nil
	}
	s.outlive(record, due)
	return false, due, nil
}

// message returns what was delivered of a key's message, and the record that
// says so; nil if nothing was.
func (s *sweep) message(ctx context.Context, k *keyRecord) (*messageRecord, *Record, error) {
	if !k.bound() {
		return nil, nil, nil
	}
	return s.m.message(ctx, asStored, k.identity)
}

// outlive has the record of a delivery, which may be nil, looked at later than a
// key of its message is. Where the policy has changed, that would be the other
// way round: the record would go, and the key stay, as one whose message was
// never delivered.
func (s *sweep) outlive(r *Record, due time.Time) {
	if r != nil && !r.Due.After(due) {
		s.stay[r.Name] = edit{old: r, name: r.Name, due: due.Add(neverLook), bare: true}
	}
}

// withStaying returns edits with those for the records that are to stay, which
// may be among them.
func (s *sweep) withStaying(edits []edit) []edit {
	for i, e := range edits {
		if stay, ok := s.stay[e.name]; ok {
			edits[i] = stay
			delete(s.stay, e.name)
		}
	}
	return slices.AppendSeq(edits, maps.Values(s.stay))
}

// dueUnused is when a key goes that is not delivered; zero is never.
func (m *Manager) dueUnused(k *keyRecord) time.Time {
	if m.o.Undelivered == 0 {
		return time.Time{}
	}
	return k.stored.Add(m.o.Undelivered)
}

// closeEdit takes the octets out of a key and makes it a tombstone. If the key
// manager is to be told, the next look does.
func (m *Manager) closeEdit(k *keyRecord) edit {
	now := m.clock.late()
	k.wipe()
	k.octets = nil
	k.state, k.closed, k.atKM = kmclient.StateClosed, now, !m.km.DeletesOnDelivery()
	due := time.Unix(1, 0) // at once
	if !k.atKM {
		due = now.Add(m.o.Tombstones)
	}
	return m.editKey(k, due)
}

// tombstone tells the key manager that a key is closed, if it has not been told
// yet, and removes a tombstone when its time has come.
func (s *sweep) tombstone(ctx context.Context, k *keyRecord) (edit, error) {
	end := k.closed.Add(s.m.o.Tombstones)
	switch {
	case !end.After(s.now):
		s.removed++
		return edit{old: k.raw, name: k.raw.Name, remove: true}, nil
	case !k.atKM:
		return edit{old: k.raw, name: k.raw.Name, due: end, bare: true}, nil
	case s.dryRun:
		s.untold++
		return edit{old: k.raw, name: k.raw.Name, due: k.raw.Due, bare: true}, nil
	}
	if s.kmError == nil {
		s.kmError = s.m.tellKM(ctx, k)
		if s.kmError != nil && ctx.Err() != nil {
			return edit{}, kmclient.GaveUp(ctx)
		}
		if s.kmError != nil {
			s.m.o.Logger.Warn("the key manager could not be told of closed keys; trying again", "in", kmPause, "error", s.kmError)
		}
	}
	if s.kmError != nil {
		s.untold++
		return edit{old: k.raw, name: k.raw.Name, due: s.now.Add(min(kmPause, s.m.o.Tombstones)), bare: true}, nil
	}
	s.told++
	k.atKM = false
	return s.m.editKey(k, end), nil
}

// tellKM closes a key at the key manager. One that has it no more is content.
func (m *Manager) tellKM(ctx context.Context, k *keyRecord) error {
	err := m.km.CloseKey(ctx, k.spelled)
	if err != nil && !errors.Is(err, kmclient.ErrKeyNotFound) && !errors.Is(err, kmclient.ErrUnsupported) {
		return err
	}
	m.count.closedAtKM.Add(1)
	return nil
}
