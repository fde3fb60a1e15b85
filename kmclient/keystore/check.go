package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// An Owner is whose records they are: the names under which a [Manager] keeps
// its own, as its Options have them.
type Owner struct {
	KM  string
	SAE string
}

// Owners returns whose keys and messages are in the store.
func (v *Vault) Owners(ctx context.Context) (owners []Owner, err error) {
	seen := map[Owner]bool{}
	for _, kind := range sealedKinds() {
		for after := (Name{Kind: kind}); ; {
			records, err := v.store.List(ctx, after, 1)
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
}

// A Damage is a record that can't be used.
type Damage struct {
	Name   Name
	Reason string
}

const maxDamages = 100

func (r *Report) add(n Name, reason string) {
	if r.Damaged++; len(r.Damages) < maxDamages {
		r.Damages = append(r.Damages, Damage{n, reason})
	}
}

// Check reads all records, unseals those that are sealed and says what is there
// and what can't be used. Of the engine's own structures it sees nothing: an
// SQLite file has a check of its own.
func (v *Vault) Check(ctx context.Context) (*Report, error) {
	r := &Report{Keys: map[kmclient.State]int{}}
	err := v.pages(ctx, Name{}, func(Name) bool { return true }, func(records []*Record) error {
		for _, record := range records {
			if err := v.checkRecord(ctx, record, r); err != nil {
				return err
			}
		}
		return nil
	})
	return r, err
}

// checkRecord adds a record to a report.
func (v *Vault) checkRecord(ctx context.Context, record *Record, r *Report) error {
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
	case it.ID != recordID(k.peer, k.spelled) && it.ID != recordID("", k.spelled): // see Manager.peerIn
		return fmt.Errorf("a key, under the name of another one: %.255q", k.spelled)
	case k.state == kmclient.StateUsed && k.used.IsZero(), !k.used.IsZero() && k.state == kmclient.StateInUse:
		return fmt.Errorf("a key whose state, %s, does not go with its dates", k.state)
	}
	r.Keys[k.state]++
	return nil
}
