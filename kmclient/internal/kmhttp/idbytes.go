package kmhttp

import (
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
)

// IDBytes is the most bytes that a key ID has taken in a message so far.
type IDBytes struct{ atomic.Int32 }

// Note takes the IDs of keys into account.
func (b *IDBytes) Note(keys []*kmclient.Key) {
	for _, k := range keys {
		for n := int32(storedLength(k.ID())); ; {
			most := b.Load()
			if n <= most || b.CompareAndSwap(most, n) {
				break
			}
		}
	}
}

// storedLength returns how many bytes of a message a key ID takes.
func storedLength(id string) int {
	if kmclient.CanonicalID(id) == id && uuid.Validate(id) == nil {
		return len(uuid.UUID{})
	}
	return len(id)
}
