package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// An Owner is whose records they are: the names under which a Store keeps its own,
// as its Options have them.
type Owner struct {
	KM  string
	SAE string
}

// For returns the store as another owner has it, for maintenance: it fetches no
// key. It ends with s, and needs no Close of its own.
func (s *Store) For(o Owner) *Store {
	other := s.o
	other.KM, other.SAE = o.KM, o.SAE
	return &Store{km: s.km, sealed: s.sealed, o: other, clock: s.clock, closed: true, borrowed: true}
}

// Owners returns whose keys and messages the engine keeps: those of s, and others.
func (s *Store) Owners(ctx context.Context) (owners []Owner, err error) {
	seen := map[Owner]bool{}
	for _, kind := range sealedKinds() {
		for after := (Name{Kind: kind}); ; {
			records, err := s.sealed.engine.List(ctx, after, 1)
			if err != nil {
				return nil, err
			}
			if len(records) == 0 || records[0].Kind != kind {
				break
			}
			o := Owner{records[0].KM, records[0].SAE}
			if !seen[o] {
				seen[o] = true
				owners = append(owners, o)
			}
			after = Name{kind, o.KM, o.SAE, "\xff"} // behind all IDs, which are US-ASCII
		}
	}
	return owners, nil
}

// A Report is what Check has found.
type Report struct {
	Keys     map[kmclient.State]int // receiving keys
	Messages int                    // of which deliveries are recorded
	Claims   int                    // key IDs that are taken, of sending and receiving keys

	Damaged int      // records that can't be used; they are not among the others
	Damages []Damage // the first hundred of them

	// Engine is what is wrong with the structures of the engine itself, as those of
	// an SQLite file, nil if nothing is. The other fields then count what could be
	// read.
	Engine error
}

// A Damage is a record that can't be used: of a key ("receive"), a key ID that is
// taken ("claim"), a message ("message") or of the store itself ("store").
type Damage struct {
	Kind   string
	Owner  Owner
	ID     string // in the record's name; that of a key only if it is a UUID
	Reason string
}

const maxDamages = 100

func (r *Report) add(n Name, reason string) {
	if r.Damaged++; len(r.Damages) < maxDamages {
		r.Damages = append(r.Damages, Damage{string(n.Kind), Owner{n.KM, n.SAE}, n.ID, reason})
	}
}

// Check reads all that is in the store, whoever the owner, and reports what is
// there and what can't be used.
func (s *Store) Check(ctx context.Context) (*Report, error) {
	r := &Report{Keys: map[kmclient.State]int{}}
	if r.Engine = s.sealed.engine.Check(ctx); r.Engine != nil && !errors.Is(r.Engine, kmclient.ErrStore) {
		return nil, r.Engine
	}
	err := s.sealed.pages(ctx, Name{}, func(Name) bool { return true }, func(records []*Record) error {
		for _, record := range records {
			if err := s.sealed.checkRecord(ctx, record, r); err != nil {
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
func (v *sealed) checkRecord(ctx context.Context, record *Record, r *Report) error {
	switch record.Kind {
	case KindClaim:
		r.Claims++
		return nil
	case KindStore:
		return nil
	case KindReceive, KindMessage:
	default:
		r.add(record.Name, "of an unknown kind")
		return nil
	}
	it, err := v.unseal(ctx, record)
	if errors.Is(err, ErrRecord) {
		r.add(record.Name, "can't be unsealed: damaged or changed")
		return nil
	}
	if err != nil {
		return err
	}
	defer it.wipe()
	if record.Kind == KindMessage {
		err = checkMessage(it)
	} else {
		err = checkKeyRecord(it, r)
	}
	switch {
	case err != nil:
		r.add(record.Name, err.Error())
	case record.Kind == KindMessage:
		r.Messages++
	}
	return nil
}

func checkMessage(it *item) error {
	msg, err := it.asMessage()
	identity, hexErr := hex.DecodeString(it.ID)
	switch {
	case err != nil || msg.first.IsZero() || len(msg.rcpts) == 0:
		return errors.New("the record of a message, with impossible content")
	case hexErr != nil || len(identity) != len(kmclient.Identity{}):
		return errors.New("the record of a message, under a name that is none")
	}
	return nil
}

// checkKeyRecord counts a key that is as it should be.
func checkKeyRecord(it *item, r *Report) error {
	k, err := it.asKey()
	if err != nil {
		return errors.New("a key, with impossible content")
	}
	defer k.wipe()
	switch {
	case it.ID != recordID(k.peer, k.spelled) && it.ID != recordID("", k.spelled): // see Store.peerIn
		return fmt.Errorf("a key, under the name of another one: %.255q", k.spelled)
	case k.state == kmclient.StateUsed && k.used.IsZero(), !k.used.IsZero() && k.state == kmclient.StateInUse:
		return fmt.Errorf("a key whose state, %s, does not go with its dates", k.state)
	}
	r.Keys[k.state]++
	return nil
}
