package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// An item is a record with what is sealed in it.
type item struct {
	*Record
	state byte
	plain []byte // whoever takes it clears it
}

// An edit is a Change before its new value is sealed.
type edit struct {
	old    *Record // as it was read; nil: the record is new
	name   Name
	due    time.Time
	remove bool
	bare   bool // nothing is sealed: the value stays as it is, empty if the record is new
	state  byte
	plain  []byte
	claim  Name // claimed in the same commit; no Kind: nothing is
}

// changes returns how many changes an edit is.
func (e edit) changes() int {
	if e.claim.Kind == "" {
		return 1
	}
	return 2
}

// get returns the records with these names, nil for one that is not there.
func (v *sealed) get(ctx context.Context, from view, names ...Name) ([]*item, error) {
	if from == asSeen {
		return v.recall(ctx, names)
	}
	records, err := v.engine.Get(ctx, names...)
	if err != nil {
		return nil, err
	}
	return v.noteRead(ctx, names, records)
}

// getReady is get from the store for one who may fetch what can't be had again:
// what comes next is sealed with the store key of this moment, so nothing is
// fetched where that is not known.
func (v *sealed) getReady(ctx context.Context, names ...Name) ([]*item, error) {
	records, err := v.engine.Get(ctx, append(slices.Clone(names), headName())...)
	if err != nil {
		return nil, err
	}
	if err := v.follow(ctx, records[len(names)]); err != nil {
		return nil, err
	}
	return v.noteRead(ctx, names, records[:len(names)])
}

// noteRead remembers records that have been read, and opens them.
func (v *sealed) noteRead(ctx context.Context, names []Name, records []*Record) ([]*item, error) {
	for i, r := range records {
		v.note(names[i], r)
	}
	return v.unsealAll(ctx, records)
}

// note remembers a record, nil if there is none. A claim is not worth the room:
// nothing is refused by what was seen, and nothing changes it.
func (v *sealed) note(n Name, r *Record) {
	if n.Kind == KindReceive || n.Kind == KindMessage {
		v.recent.note(n, r)
	}
}

// recall returns the records with these names as they were last seen.
func (v *sealed) recall(ctx context.Context, names []Name) ([]*item, error) {
	records := make([]*Record, len(names))
	for i, n := range names {
		var ok bool
		if records[i], ok = v.recent.recall(n); !ok {
			return nil, errNotSeen
		}
	}
	items, err := v.unsealAll(ctx, records)
	if errors.Is(err, ErrRecord) { // its store key was replaced
		err = errNotSeen
	}
	return items, err
}

// unsealAll opens records, of which some may be nil. There is nothing in a claim.
func (v *sealed) unsealAll(ctx context.Context, records []*Record) (items []*item, err error) {
	items = make([]*item, len(records))
	for i, r := range records {
		if r == nil {
			continue
		}
		if r.Kind == KindClaim {
			items[i] = &item{Record: r}
			continue
		}
		if items[i], err = v.unseal(ctx, r); err != nil {
			for _, it := range items[:i] {
				it.wipe()
			}
			return nil, err
		}
	}
	return items, nil
}

func (it *item) wipe() {
	if it != nil {
		clear(it.plain)
	}
}

// unseal opens a record. One that was sealed with a store key that is new to
// this process makes it look for that.
func (v *sealed) unseal(ctx context.Context, r *Record) (*item, error) {
	number, err := generationOf(r.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	id, key, ok := v.keyOf(number)
	if !ok {
		if err := v.reload(ctx); err != nil {
			return nil, err
		}
		if id, key, ok = v.keyOf(number); !ok {
			return nil, fmt.Errorf("%w: %v: sealed with an unknown key", ErrRecord, r.Name)
		}
	}
	it := &item{Record: r}
	if it.state, it.plain, err = key.unseal(id, r.Name, r.Value); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	return it, nil
}

func (v *sealed) keyOf(number uint32) (id []byte, key StoreKey, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	key, ok = v.byGen[number]
	return v.id, key, ok
}

// apply makes edits: in one commit, unless there are more than the engine takes
// in one. The callers' rules allow for that: each edit is right by itself.
func (v *sealed) apply(ctx context.Context, edits ...edit) error {
	_, err := v.applySome(ctx, edits)
	return err
}

// applySome is apply, and returns how many edits, from the first one on, are in
// commits that were made.
func (v *sealed) applySome(ctx context.Context, edits []edit) (made int, err error) {
	for len(edits) > 0 {
		n := v.fit(edits)
		if err := v.applyBatch(ctx, edits[:n]); err != nil {
			return made, err
		}
		edits, made = edits[n:], made+n
	}
	return made, nil
}

// fit returns how many of edits, from the first one on, go into one commit. An
// edit and its claim are never split.
func (v *sealed) fit(edits []edit) (n int) {
	l := v.engine.Limits()
	changes, octets := 1, 1024 // for the store's own record
	for _, e := range edits {
		changes += e.changes()
		octets += 1024*(1+e.changes()) + len(e.plain)
		if n > 0 && (changes > l.Changes || octets > l.Octets) {
			break
		}
		n++
	}
	return n
}

// applyBatch makes edits in one commit, sealed with the store key of that
// moment.
func (v *sealed) applyBatch(ctx context.Context, edits []edit) error {
	for {
		head, changes, err := v.sealAll(edits)
		if err != nil {
			return err
		}
		err = v.engine.Apply(ctx, changes...)
		v.noteAll(changes[1:], err)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		// Was it the store's own record?
		if err := v.reload(ctx); err != nil {
			return err
		}
		v.mu.RLock()
		same := v.head.Version == head.Version
		v.mu.RUnlock()
		if same {
			return err
		}
	}
}

// noteAll remembers what has become of changes, whose outcome is err.
func (v *sealed) noteAll(changes []Change, err error) {
	for _, c := range changes {
		if err != nil {
			v.recent.forget(c.Name())
		} else {
			v.note(c.Name(), c.New)
		}
	}
}

// sealAll returns the changes for edits, and the store's own record, which must
// still be as it is when they are made.
func (v *sealed) sealAll(edits []edit) (*Record, []Change, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	changes := make([]Change, 0, 2*len(edits)+1)
	changes = append(changes, Change{Old: v.head, New: v.head})
	for _, e := range edits {
		if e.remove {
			changes = append(changes, Change{Old: e.old})
			continue
		}
		if err := e.name.Check(); err != nil {
			return nil, nil, err
		}
		r := &Record{Name: e.name, Due: wholeSecond(e.due)}
		var err error
		switch {
		case !e.bare:
			r.Value, err = v.byGen[v.current].seal(v.id, v.current, e.name, e.state, e.plain)
		case e.old != nil:
			r.Value = e.old.Value
		}
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, Change{Old: e.old, New: r})
		if e.claim.Kind != "" {
			changes = append(changes, Change{New: &Record{Name: e.claim}})
		}
	}
	return v.head, changes, nil
}

// wholeSecond rounds up, so that nothing is due before its time.
func wholeSecond(t time.Time) time.Time {
	if t.IsZero() || t.Nanosecond() == 0 {
		return t
	}
	return time.Unix(t.Unix()+1, 0)
}

// page is how many records are worked on at a time.
const page = 256

// pages calls use with the records that follow a name, a page at a time and in
// the order of their names, up to the first that is not within.
func (v *sealed) pages(ctx context.Context, after Name, within func(Name) bool, use func([]*Record) error) error {
	for {
		records, err := v.engine.List(ctx, after, page)
		if err != nil {
			return err
		}
		if n := slices.IndexFunc(records, func(r *Record) bool { return !within(r.Name) }); n >= 0 {
			records = records[:n]
		}
		if err := use(records); err != nil || len(records) < page {
			return err
		}
		after = records[page-1].Name
	}
}

// each is pages, with one record at a time. Those that can't be unsealed come
// with an error.
func (v *sealed) each(ctx context.Context, after Name, within func(Name) bool, use func(*Record, *item, error) error) error {
	return v.pages(ctx, after, within, func(records []*Record) error {
		for _, r := range records {
			it, err := v.unseal(ctx, r)
			if err != nil && !errors.Is(err, ErrRecord) {
				return err
			}
			err = use(r, it, err)
			it.wipe()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// sealedKinds are the kinds of records that have a sealed value.
func sealedKinds() []Kind { return []Kind{KindReceive, KindMessage} }
