package sealed

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
)

// headName names the record that says which keys seal the others. It is part of every
// change, so that nobody writes under a replaced key.
func headName() engine.Name { return engine.Name{Kind: engine.Store, ID: "head"} }

// A head is what the store's own record holds, as JSON. There are two generations while
// the store key is being changed, else one.
type head struct {
	Version     int          `json:"version"`
	StoreID     []byte       `json:"store_id"`
	Generations []generation `json:"generations"` // the last one seals new records
}

// A generation is one store key. Check is the key for recipients, sealed with it:
// whoever can open it has the right store key.
type generation struct {
	Number uint32 `json:"number"`
	Check  []byte `json:"check"`
}

const (
	headVersion = 1
	idSize      = 16
)

func (h head) last() generation { return h.Generations[len(h.Generations)-1] }

// place is where the Check of a generation belongs.
func (h head) place() storekey.Place {
	return storekey.Place{Store: h.StoreID, Name: headName().Parts()}
}

// match finds the keys of the generations of a store among keys.
func (h head) match(keys []storekey.Key) (byGen map[uint32]storekey.Key, rcptKey []byte) {
	byGen = map[uint32]storekey.Key{}
	for _, g := range h.Generations {
		for _, k := range keys {
			if _, plain, err := k.Open(h.place(), g.Check); err == nil && len(plain) == sha256.Size {
				byGen[g.Number], rcptKey = k, plain
				break
			}
		}
	}
	return byGen, rcptKey
}

// readHead returns the store's own record, or nil if the store is empty.
func (s *Records) readHead(ctx context.Context) (*engine.Record, error) {
	record, err := s.getHead(ctx)
	if err != nil || record != nil {
		return record, err
	}
	any, err := s.Engine.List(ctx, engine.Name{}, 1)
	if err != nil || len(any) == 0 {
		return nil, err
	}
	if record, err = s.getHead(ctx); err == nil && record == nil { // and another process did not just make it
		err = fmt.Errorf("%w: there are records, but the one that says how they are sealed is missing", ErrRecord)
	}
	return record, err
}

func (s *Records) getHead(ctx context.Context) (*engine.Record, error) {
	records, err := s.Engine.Get(ctx, headName())
	if err != nil {
		return nil, err
	}
	return records[0], nil
}

func (s *Records) writeHead(ctx context.Context, old *engine.Record, h head) error {
	value, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return s.Engine.Apply(ctx, engine.Change{Old: old, New: &engine.Record{Name: headName(), Value: value}})
}

func decodeHead(r *engine.Record) (h head, err error) {
	if err := json.Unmarshal(r.Value, &h); err != nil {
		return h, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	if h.Version > headVersion {
		return h, fmt.Errorf("%w: the store has version %d, and this program knows %d: use a newer program, or restore an older backup", kmclient.ErrStore, h.Version, headVersion)
	}
	if h.Version < 1 || len(h.StoreID) != idSize || len(h.Generations) < 1 || len(h.Generations) > 2 {
		return h, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	for _, g := range h.Generations {
		if n, err := storekey.Generation(g.Check); err != nil || n != g.Number {
			return h, fmt.Errorf("%w: %v", ErrRecord, r.Name)
		}
	}
	return h, nil
}
