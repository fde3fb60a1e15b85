package keydb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/sqlitedb"
)

// MaxKeySize is the largest key that can be stored, in bits.
const MaxKeySize = 8 << 20

// page is how many keys are listed at a time.
const page = 500

// A Grant says who has got a key and who may still fetch it. The zero Grant is
// that of a key which stays until it is deleted.
type Grant struct {
	Master  string   // SAE that asked for the key and has got it
	Readers []string // SAEs that may fetch it, each once
}

// A Claim is a reader's demand for keys that were granted to it.
type Claim struct {
	Master string // SAE that the keys were made for
	Reader string // SAE that fetches them
	Keep   bool   // don't note that the reader has got them
}

// The numbers of a key's state in the database.
const (
	stateStored = iota // or not known
	stateInUse
	stateUsed
)

// stateOf returns the state with that number.
func stateOf(number int) kmclient.State {
	switch number {
	case stateInUse:
		return kmclient.StateInUse
	case stateUsed:
		return kmclient.StateUsed
	}
	return kmclient.StateStored
}

// Put stores keys in a pool that are handed out now, all or none of them. An ID
// that the database has is an ErrExists. The keys stay the caller's.
func (db *DB) Put(ctx context.Context, pool string, g Grant, keys ...*kmclient.Key) error {
	for _, k := range keys {
		if err := checkKey(k.ID(), k.Reveal()); err != nil {
			return err
		}
	}
	if (g.Master == "") != (len(g.Readers) == 0) {
		return fmt.Errorf("%w: a grant needs a master and readers", kmclient.ErrBadRequest)
	}
	return db.write(ctx, func(c conn) error {
		into, err := db.grow(c, pool, len(keys))
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := c.insert(into, g, stateInUse, k.ID(), time.Now(), k.Reveal()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Get returns keys of a pool, in the order of their IDs here, all or none.
func (db *DB) Get(ctx context.Context, pool string, ids ...string) ([]*kmclient.Key, error) {
	keys, _, err := db.get(ctx, pool, ids)
	return keys, err
}

// get is Get; handed are those of the keys that were put here when they were
// handed out, and were not fetched since.
func (db *DB) get(ctx context.Context, pool string, ids []string) (keys, handed []*kmclient.Key, err error) {
	err = db.read(ctx, func(c conn) error {
		for _, id := range ids {
			var spelled string
			var octets []byte
			var state int
			err := c.Row([]any{&spelled, &octets, &state},
				"SELECT spelled, octets, state FROM keys WHERE id=? AND pool=(SELECT id FROM pools WHERE name=?)", kmclient.CanonicalID(id), pool)
			if err != nil {
				return notFound(err, id)
			}
			k := kmclient.NewKey(spelled, octets)
			keys = append(keys, k)
			switch state {
			case stateInUse:
				handed = append(handed, k)
			case stateUsed:
				k.SetState(kmclient.StateUsed)
			}
		}
		return nil
	})
	keys, err = allOrNone(keys, err)
	return keys, handed, err
}

// Use is like Get, and notes that the keys were fetched by their IDs, if they
// were put here when they were handed out: [kmclient.StateUsed]. The keys are
// worth more than the note: they come also where that can't be written.
func (db *DB) Use(ctx context.Context, pool string, ids ...string) ([]*kmclient.Key, error) {
	keys, handed, err := db.get(ctx, pool, ids)
	if err != nil || len(handed) == 0 {
		return keys, err
	}
	for _, k := range handed {
		k.SetState(kmclient.StateUsed)
	}
	_ = db.write(ctx, func(c conn) error {
		for _, k := range handed {
			if err := c.Exec("UPDATE keys SET state=? WHERE id=?", stateUsed, kmclient.CanonicalID(k.ID())); err != nil {
				return err
			}
		}
		return nil
	})
	return keys, nil
}

// Fetch returns keys that were granted to a reader, in the order of their IDs
// here, and notes that the reader has got them; a key that all its readers
// have got is deleted. If one of the keys is not there, or is no longer there
// for this reader, that is an ErrKeyNotFound; if one was never granted to it,
// or by another master, an ErrNotGranted. Nothing is changed then.
func (db *DB) Fetch(ctx context.Context, claim Claim, ids ...string) ([]*kmclient.Key, error) {
	keys := make([]*kmclient.Key, 0, len(ids))
	act := db.write
	if claim.Keep {
		act = db.read
	}
	err := act(ctx, func(c conn) error {
		var missing error
		for _, id := range ids {
			k, err := c.fetch(claim, id)
			switch {
			case errors.Is(err, kmclient.ErrKeyNotFound):
				missing = err // but another one may be refused
			case err != nil:
				return err
			default:
				keys = append(keys, k)
			}
		}
		return missing
	})
	return allOrNone(keys, err)
}

func (c conn) fetch(claim Claim, id string) (*kmclient.Key, error) {
	var seq, pool, waiting, fetched int64
	var spelled, master string
	var octets []byte
	err := c.Row([]any{&seq, &pool, &waiting, &spelled, &master, &octets},
		"SELECT seq, pool, waiting, spelled, master, octets FROM keys WHERE id=? AND master<>''", kmclient.CanonicalID(id))
	if err != nil {
		return nil, notFound(err, id)
	}
	k := kmclient.NewKey(spelled, octets)
	err = c.Row([]any{&fetched}, "SELECT fetched FROM readers WHERE key=? AND sae=?", seq, claim.Reader)
	switch {
	case errors.Is(err, sqlitedb.ErrNoRow) || err == nil && master != claim.Master:
		err = fmt.Errorf("%w: %s", ErrNotGranted, id)
	case err == nil && fetched != 0:
		err = notFound(sqlitedb.ErrNoRow, id)
	case err == nil && claim.Keep:
	case err == nil && waiting > 1:
		err = errors.Join(
			c.Exec("UPDATE readers SET fetched=1 WHERE key=? AND sae=?", seq, claim.Reader),
			c.Exec("UPDATE keys SET waiting=waiting-1 WHERE seq=?", seq))
	case err == nil:
		err = c.remove(seq, pool)
	}
	if err != nil {
		k.Wipe()
		return nil, err
	}
	return k, nil
}

// Delete deletes keys of a pool, all or none.
func (db *DB) Delete(ctx context.Context, pool string, ids ...string) error {
	return db.write(ctx, func(c conn) error {
		for _, id := range ids {
			var seq, from int64
			err := c.Row([]any{&seq, &from},
				"SELECT seq, pool FROM keys WHERE id=? AND pool=(SELECT id FROM pools WHERE name=?)", kmclient.CanonicalID(id), pool)
			if err != nil {
				return notFound(err, id)
			}
			if err := c.remove(seq, from); err != nil {
				return err
			}
		}
		return nil
	})
}

// Count returns how many keys a pool has.
func (db *DB) Count(ctx context.Context, pool string) (n int, err error) {
	err = db.read(ctx, func(c conn) error {
		err := c.Row([]any{&n}, "SELECT keys FROM pools WHERE name=?", pool)
		if errors.Is(err, sqlitedb.ErrNoRow) {
			return nil
		}
		return err
	})
	return n, err
}

// List iterates over the keys of a pool, oldest first, without their bytes. It
// reads some hundred at a time, so that keys which are stored or deleted
// meanwhile may or may not be seen. An error ends it.
func (db *DB) List(ctx context.Context, pool string) iter.Seq2[kmclient.KeyInfo, error] {
	return func(yield func(kmclient.KeyInfo, error) bool) {
		for after := int64(0); ; {
			infos := make([]kmclient.KeyInfo, 0, page)
			err := db.read(ctx, func(c conn) error {
				return c.Rows(func(scan sqlitedb.Scan) error {
					var info kmclient.KeyInfo
					var made int64
					var state int
					err := scan(&after, &info.ID, &info.Size, &made, &state)
					info.State = stateOf(state)
					if made != 0 {
						info.Time = time.UnixMicro(made)
					}
					infos = append(infos, info)
					return err
				}, `SELECT seq, spelled, 8*length(octets), made, state FROM keys
					WHERE pool=(SELECT id FROM pools WHERE name=?) AND seq>? ORDER BY seq LIMIT ?`, pool, after, page)
			})
			if err != nil {
				yield(kmclient.KeyInfo{}, err)
				return
			}
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
			if len(infos) < page {
				return
			}
		}
	}
}

// grow adds n to the number of keys in a pool, which it makes if there is
// none, and returns the pool's number.
func (db *DB) grow(c conn, pool string, n int) (id int64, err error) {
	var keys int
	err = c.Row([]any{&id, &keys},
		"INSERT INTO pools (name, keys) VALUES (?, ?) ON CONFLICT DO UPDATE SET keys=keys+excluded.keys RETURNING id, keys", pool, n)
	if err == nil && db.options.MaxKeys != 0 && keys > db.options.MaxKeys {
		err = fmt.Errorf("%w: at most %d", ErrFull, db.options.MaxKeys)
	}
	return id, err
}

// insert stores a key; grow has counted it already. The zero time is that of a
// key of unknown age.
func (c conn) insert(pool int64, g Grant, state int, id string, made time.Time, octets []byte) error {
	name, micro := kmclient.CanonicalID(id), int64(0)
	if !made.IsZero() {
		micro = made.UnixMicro()
	}
	var seq int64
	err := c.Row([]any{&seq},
		`INSERT INTO keys (id, spelled, pool, master, waiting, made, octets, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING RETURNING seq`, name, id, pool, g.Master, len(g.Readers), micro, octets, state)
	if errors.Is(err, sqlitedb.ErrNoRow) {
		return fmt.Errorf("%w: %s", ErrExists, id)
	}
	for _, sae := range g.Readers {
		if err == nil {
			err = c.Exec("INSERT INTO readers (key, sae, fetched) VALUES (?, ?, 0)", seq, sae)
		}
	}
	return err
}

func (c conn) remove(seq, pool int64) error {
	return errors.Join(
		c.Exec("DELETE FROM keys WHERE seq=?", seq),
		c.Exec("DELETE FROM readers WHERE key=?", seq),
		c.Exec("UPDATE pools SET keys=keys-1 WHERE id=?", pool))
}

func checkKey(id string, octets []byte) error {
	if err := kmclient.CheckID(id); err != nil {
		return err
	}
	if len(octets) == 0 || len(octets) > MaxKeySize/8 {
		return fmt.Errorf("%w: %s: %d octets, must be 1 to %d", kmclient.ErrBadKey, id, len(octets), MaxKeySize/8)
	}
	return nil
}

// notFound is kmclient.ErrKeyNotFound where SQLite found no row.
func notFound(err error, id string) error {
	if errors.Is(err, sqlitedb.ErrNoRow) {
		return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
	}
	return err
}

// allOrNone wipes keys that are not to be handed out because of err.
func allOrNone(keys []*kmclient.Key, err error) ([]*kmclient.Key, error) {
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	return keys, nil
}
