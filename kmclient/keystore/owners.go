package keystore

import (
	"context"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// An Owner says whose records they are: the names, from its Options, under which a
// Store keeps its own.
type Owner struct {
	KM  string
	SAE string
}

// For returns the store as another owner sees it, for maintenance: it fetches no key.
// It ends with s, and needs no Close of its own.
func (s *Store) For(o Owner) *Store {
	other := s.o
	other.KM, other.SAE = o.KM, o.SAE
	return &Store{km: s.km, records: s.records, o: other, clock: s.clock, closed: true, borrowed: true}
}

// Owners returns the owners of keys and messages in the engine: that of s, and others.
func (s *Store) Owners(ctx context.Context) (owners []Owner, err error) {
	seen := map[Owner]bool{}
	for _, kind := range sealed.Kinds() {
		for after := (engine.Name{Kind: kind}); ; {
			records, err := s.records.Engine.List(ctx, after, 1)
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
			after = engine.Name{Kind: kind, KM: o.KM, SAE: o.SAE, ID: "\xff"} // sorts after all IDs, which are US-ASCII
		}
	}
	return owners, nil
}
