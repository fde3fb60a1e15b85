package kmhttp

import (
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
)

// IDBytes is the most that the key IDs so far take in a message, in bytes.
type IDBytes struct{ atomic.Int32 }

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
