package sealed

import (
	"context"
	"errors"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
)

// An Edit is a Change before its new value is sealed.
type Edit struct {
	Old    *engine.Record // as it was read; nil: the record is new
	Name   engine.Name
	Due    time.Time
	Remove bool
	Bare   bool // nothing is sealed: the value stays as it is, empty if the record is new
	State  byte
	Plain  []byte
	Claim  engine.Name // claimed in the same commit; no Kind: no claim
	Hand   bool        // the new record is handed over: see Take
}

// changes returns how many changes an edit is.
func (e Edit) changes() int {
	if e.Claim.Kind == "" {
		return 1
	}
	return 2
}

// WipeEdits clears the plaintext in edits.
func WipeEdits(edits []Edit) {
	for _, e := range edits {
		clear(e.Plain)
	}
}

// Apply makes edits, in one commit unless there are more than the engine accepts in
// one. The callers' rules allow for that: each edit is right by itself.
func (s *Records) Apply(ctx context.Context, edits ...Edit) error {
	_, err := s.ApplySome(ctx, edits)
	return err
}

// ApplySome is Apply, and returns how many of the first edits are in commits that were
// made.
func (s *Records) ApplySome(ctx context.Context, edits []Edit) (made int, err error) {
	for len(edits) > 0 {
		n := s.Fit(edits)
		if err := s.commit(ctx, edits[:n]); err != nil {
			return made, err
		}
		edits, made = edits[n:], made+n
	}
	return made, nil
}

// ApplyEach makes edits, and leaves out those whose record was changed meanwhile. It
// reports whether it made all of them.
func (s *Records) ApplyEach(ctx context.Context, edits []Edit) (all bool, err error) {
	n, err := s.ApplySome(ctx, edits)
	if !errors.Is(err, engine.ErrConflict) {
		return err == nil, err
	}
	all = true
	for _, e := range edits[n:] {
		err := s.Apply(ctx, e)
		if err != nil && !errors.Is(err, engine.ErrConflict) {
			return false, err
		}
		all = all && err == nil
	}
	return all, nil
}

// Fit returns how many of the first edits go into one commit. An edit and its claim are
// never split.
func (s *Records) Fit(edits []Edit) (n int) {
	l := s.Engine.Limits()
	changes, size := 1, 1024 // for the store's own record
	for _, e := range edits {
		changes += e.changes()
		size += 1024*(1+e.changes()) + len(e.Plain)
		if n > 0 && (changes > l.Changes || size > l.Bytes) {
			break
		}
		n++
	}
	return n
}

// commit makes edits in one commit, sealed with the store key of that moment.
func (s *Records) commit(ctx context.Context, edits []Edit) error {
	for {
		head, changes, err := s.seal(edits)
		if err != nil {
			return err
		}
		for _, c := range changes[1:] {
			s.handed.forget(c.Name())
		}
		err = s.Engine.Apply(ctx, changes...)
		if err == nil {
			s.hand(edits, changes)
		}
		if !errors.Is(err, engine.ErrConflict) {
			return err
		}
		// Was it the store's own record?
		if err := s.reload(ctx); err != nil {
			return err
		}
		s.mu.RLock()
		same := s.head.Version == head.Version
		s.mu.RUnlock()
		if same {
			return err
		}
	}
}

// hand hands over the new records of edits, which are in changes.
func (s *Records) hand(edits []Edit, changes []engine.Change) {
	i := 1 // after the store's own record
	for _, e := range edits {
		if e.Hand {
			s.handed.put(e.Name, changes[i].New)
		}
		i += e.changes()
	}
}

// seal returns the changes for edits, and the store's own record, which must be
// unchanged when they are made.
func (s *Records) seal(edits []Edit) (*engine.Record, []engine.Change, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	changes := make([]engine.Change, 0, 2*len(edits)+1)
	changes = append(changes, engine.Change{Old: s.head, New: s.head})
	for _, e := range edits {
		if e.Remove {
			changes = append(changes, engine.Change{Old: e.Old})
			continue
		}
		if err := e.Name.Check(); err != nil {
			return nil, nil, err
		}
		r := &engine.Record{Name: e.Name, Due: WholeSecond(e.Due)}
		var err error
		switch {
		case !e.Bare:
			r.Value, err = s.byGen[s.current].Seal(storekey.Place{Store: s.id, Name: e.Name.Parts()}, s.current, e.State, e.Plain)
		case e.Old != nil:
			r.Value = e.Old.Value
		}
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, engine.Change{Old: e.Old, New: r})
		if e.Claim.Kind != "" {
			changes = append(changes, engine.Change{New: &engine.Record{Name: e.Claim}})
		}
	}
	return s.head, changes, nil
}

// WholeSecond rounds up, so that nothing is due before its time.
func WholeSecond(t time.Time) time.Time {
	if t.IsZero() || t.Nanosecond() == 0 {
		return t
	}
	return time.Unix(t.Unix()+1, 0)
}
