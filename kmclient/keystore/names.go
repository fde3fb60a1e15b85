package keystore

import (
	"crypto/sha256"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// recordID returns the ID in the names of the records of a peer's key. For a UUID it is
// the canonical form. Any other ID may also belong to another peer's key, so SHA-256
// makes a UUID of version 8 from both (RFC 9562 §5.8), which is as short as any UUID
// and hides the ID.
func recordID(peer, id string) string {
	if isUUID(id) {
		return kmclient.CanonicalID(id)
	}
	return uuid.NewHash(sha256.New(), uuid.Nil, []byte(id+"\x00"+peer), 8).String() // an ID has no NUL
}

// isUUID reports whether an ID is a UUID in any spelling. A UUID is unique over all
// peers.
func isUUID(id string) bool { return uuid.Validate(kmclient.CanonicalID(id)) == nil }

// name names a record of this key manager and SAE.
func (s *Store) name(kind engine.Kind, id string) engine.Name {
	return engine.Name{Kind: kind, KM: s.o.KM, SAE: s.o.SAE, ID: id}
}

// within returns a test for records of a kind of this key manager and SAE.
func (s *Store) within(kind engine.Kind) func(engine.Name) bool {
	start := s.name(kind, "")
	return func(n engine.Name) bool { n.ID = ""; return n == start }
}

// peerIn returns the peer for names of records. A key manager that keeps its keys is
// asked for them by ID alone. There an ID means one key with one use, whichever peer it
// is said to be for, so peerIn is empty.
func (s *Store) peerIn(peer string) string {
	if s.km.DeletesOnDelivery() {
		return peer
	}
	return ""
}

// keyID returns the ID of a peer's key in names.
func (s *Store) keyID(peer, id string) string { return recordID(s.peerIn(peer), id) }

// keyName names the record of a receiving key.
func (s *Store) keyName(peer, id string) engine.Name {
	return s.name(engine.Receive, s.keyID(peer, id))
}

// keyNames names the records of receiving keys.
func (s *Store) keyNames(peer string, ids []string) []engine.Name {
	names := make([]engine.Name, len(ids))
	for i, id := range ids {
		names[i] = s.keyName(peer, id)
	}
	return names
}

// claimName names the claim of a key, in either direction.
func (s *Store) claimName(peer, id string) engine.Name {
	return s.name(engine.Claim, s.keyID(peer, id))
}
