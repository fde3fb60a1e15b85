package keystore

import (
	"context"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

// A straying client is one that may get some keys of a call and not the others,
// or get them when nobody waits for them any more.
type straying interface{ KeepWith(keep etsi014.KeepFunc) }

// takeStrays has the client behind km, if it is one of that kind, hand over
// what it gets.
func (s *Store) takeStrays(km kmclient.KeyManager) {
	for km != nil {
		if c, ok := km.(straying); ok {
			c.KeepWith(s.keepStrays)
			return
		}
		u, ok := km.(interface{ Unwrap() kmclient.KeyManager })
		if !ok {
			return
		}
		km = u.Unwrap()
	}
}

// keepStrays is what such a client calls. It keeps what is a key by itself, under
// the ID that it came with.
func (s *Store) keepStrays(peer string, keys []*kmclient.Key) error {
	var usable []*kmclient.Key
	seen := map[string]bool{}
	for _, k := range keys {
		id := kmclient.CanonicalID(k.ID())
		err := checkKey(k)
		if err == nil && seen[id] {
			err = fmt.Errorf("%w: key %s came twice", kmclient.ErrBadKey, k.ID())
		}
		if err != nil {
			s.o.Logger.Error("a key without its caller is not kept", "peer", peer, "error", err)
			k.Wipe()
			continue
		}
		seen[id] = true
		usable = append(usable, k)
	}
	return s.keep(context.Background(), peer, usable)
}
