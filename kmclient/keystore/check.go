package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// A Report is what Check found.
type Report struct {
	Keys     map[kmclient.State]int // receiving keys
	Messages int                    // messages with recorded deliveries
	Claims   int                    // claimed key IDs, of sending and receiving keys

	Damaged int      // unusable records; they are not counted above
	Damages []Damage // the first hundred of them

	// Engine says what is wrong with the engine's own structures, such as those of an
	// SQLite file; nil if nothing is. If it is set, the other fields count what could
	// be read.
	Engine error
}

// A Damage is an unusable record: of a key ("receive"), a claimed key ID ("claim"), a
// message ("message") or the store itself ("store").
type Damage struct {
	Kind   string
	Owner  Owner
	ID     string // from the record's name; a key's own ID only if that is a UUID
	Reason string
}

const maxDamages = 100

func (r *Report) add(n engine.Name, reason string) {
	if r.Damaged++; len(r.Damages) < maxDamages {
		r.Damages = append(r.Damages, Damage{string(n.Kind), Owner{n.KM, n.SAE}, n.ID, reason})
	}
}

// Check reads everything in the store, whoever the owner, and reports what is there and
// what is unusable.
func (s *Store) Check(ctx context.Context) (*Report, error) {
	r := &Report{Keys: map[kmclient.State]int{}}
	if r.Engine = s.records.Engine.Check(ctx); r.Engine != nil && !errors.Is(r.Engine, kmclient.ErrStore) {
		return nil, r.Engine
	}
	err := s.records.Pages(ctx, engine.Name{}, func(engine.Name) bool { return true }, func(records []*engine.Record) error {
		for _, record := range records {
			if err := s.checkRecord(ctx, record, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && r.Engine == nil {
		return nil, err
	}
	return r, nil
}

// checkRecord adds a record to a report.
func (s *Store) checkRecord(ctx context.Context, record *engine.Record, r *Report) error {
	switch record.Kind {
	case engine.Claim:
		r.Claims++
		return nil
	case engine.Store:
		return nil
	case engine.Receive, engine.Message:
	default:
		r.add(record.Name, "of an unknown kind")
		return nil
	}
	it, err := s.records.Open(ctx, record)
	if errors.Is(err, ErrRecord) {
		r.add(record.Name, "can't be unsealed: damaged or changed")
		return nil
	}
	if err != nil {
		return err
	}
	defer it.Wipe()
	if record.Kind == engine.Message {
		err = checkMessage(it)
	} else {
		err = checkKeyRecord(it, r)
	}
	switch {
	case err != nil:
		r.add(record.Name, err.Error())
	case record.Kind == engine.Message:
		r.Messages++
	}
	return nil
}

func checkMessage(it *sealed.Item) error {
	msg, err := asMessage(it)
	identity, hexErr := hex.DecodeString(it.ID)
	switch {
	case err != nil || msg.first.IsZero() || len(msg.rcpts) == 0:
		return errors.New("the record of a message, with impossible content")
	case hexErr != nil || len(identity) != len(kmclient.Identity{}):
		return errors.New("the record of a message, under a name that is not one")
	}
	return nil
}

// checkKeyRecord counts a key if its record is as it should be.
func checkKeyRecord(it *sealed.Item, r *Report) error {
	k, err := asKey(it)
	if err != nil {
		return errors.New("a key, with impossible content")
	}
	defer k.wipe()
	switch {
	case it.ID != recordID(k.peer, k.spelled) && it.ID != recordID("", k.spelled): // see Store.peerIn
		return fmt.Errorf("a key, under the name of another: %.255q", k.spelled)
	case k.state == kmclient.StateUsed && k.used.IsZero(), !k.used.IsZero() && k.state == kmclient.StateInUse:
		return fmt.Errorf("a key whose state, %s, does not match its dates", k.state)
	}
	r.Keys[k.state]++
	return nil
}
