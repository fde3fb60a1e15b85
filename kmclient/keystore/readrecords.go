package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// change makes a change to records as the previous step handed them over or, if that
// fails, as the store has them.
func (s *Store) change(do func(handed bool) error) error {
	if err := do(true); !errors.Is(err, sealed.ErrNotHanded) && !errors.Is(err, engine.ErrConflict) {
		return err
	}
	return retry(func() error { return do(false) })
}

// attempts is how often a change is tried if others get in the way.
const attempts = 40

// retry calls change until there is no conflict, with growing pauses: a mailing list's
// message may be delivered in many transactions at a time.
func retry(change func() error) (err error) {
	for n := range attempts {
		if err = change(); !errors.Is(err, engine.ErrConflict) {
			return err
		}
		time.Sleep(rand.N(time.Duration(n+1) * time.Millisecond))
	}
	return err
}

// read returns records as they were handed over, or as the store has them.
func (s *Store) read(ctx context.Context, handed bool, names ...engine.Name) ([]*sealed.Item, error) {
	if handed {
		return s.records.Take(ctx, names...)
	}
	return s.records.Get(ctx, names...)
}

// keyRecord returns what is known about one key, or nil.
func (s *Store) keyRecord(ctx context.Context, peer, id string) (*keyRecord, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	items, err := s.records.Get(ctx, s.keyName(peer, id))
	if err != nil {
		return nil, err
	}
	return asKeyOf(items[0], id)
}

// keyAndMessage returns what is known about a key and a message; each may be nil.
func (s *Store) keyAndMessage(ctx context.Context, handed bool, peer, id string, identity kmclient.Identity) (*keyRecord, *messageRecord, error) {
	if err := checkID(id); err != nil {
		return nil, nil, err
	}
	items, err := s.read(ctx, handed, s.keyName(peer, id), s.messageName(identity))
	if err != nil {
		return nil, nil, err
	}
	k, err := asKeyOf(items[0], id)
	if err != nil {
		return nil, nil, err
	}
	msg, err := asMessage(items[1])
	return k, msg, err
}

func checkID(id string) error {
	if err := kmclient.CheckID(id); err != nil {
		return fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)
	}
	return nil
}

// asKeys decodes the receiving keys with these IDs; a nil item becomes nil.
func asKeys(items []*sealed.Item, ids []string) (records []*keyRecord, err error) {
	records = make([]*keyRecord, len(items))
	for i, it := range items {
		k, err2 := asKeyOf(it, ids[i])
		if err2 != nil {
			err = err2
		}
		records[i] = k
	}
	if err != nil {
		wipeRecords(records)
		return nil, err
	}
	return records, nil
}

// asKeyOf decodes the receiving key with an ID; a nil item becomes nil. A key with
// another ID also becomes nil: a message might ask for a key by the ID in its record's
// name.
func asKeyOf(it *sealed.Item, id string) (*keyRecord, error) {
	if it == nil {
		return nil, nil
	}
	k, err := asKey(it)
	if err == nil && kmclient.CanonicalID(k.spelled) != kmclient.CanonicalID(id) {
		k.wipe()
		return nil, nil
	}
	return k, err
}

// asKey decodes a receiving key and clears the item.
func asKey(it *sealed.Item) (*keyRecord, error) {
	defer it.Wipe()
	k, err := decodeKey(it.State, it.Plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, it.Name)
	}
	k.raw = it.Record
	return k, nil
}

func wipeRecords(records []*keyRecord) {
	for _, k := range records {
		k.wipe()
	}
}

// editKey returns the edit that stores a key record; a new one comes with its claim.
func (s *Store) editKey(k *keyRecord, due time.Time) sealed.Edit {
	e := sealed.Edit{Old: k.raw, Due: due}
	if k.raw != nil {
		e.Name = k.raw.Name
	} else {
		e.Name, e.Claim = s.keyName(k.peer, k.spelled), s.claimName(k.peer, k.spelled)
	}
	e.State, e.Plain = k.encode()
	return e
}

func (s *Store) messageName(identity kmclient.Identity) engine.Name {
	return s.name(engine.Message, hex.EncodeToString(identity[:]))
}

// asMessage decodes the record of who has received a message; a nil item becomes nil.
func asMessage(it *sealed.Item) (*messageRecord, error) {
	if it == nil {
		return nil, nil
	}
	msg, err := decodeMessage(it.Plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, it.Name)
	}
	msg.raw = it.Record
	return msg, nil
}
