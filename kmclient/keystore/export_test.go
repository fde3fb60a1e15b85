package keystore

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

const (
	Longest       = longest // longest time in a policy
	MaxKeySize    = maxKeySize
	MaxRecipients = maxRecipients
)

// Fill records that the message of a key was delivered to n recipients.
func (s *Store) Fill(ctx context.Context, keyID string, n int) error {
	k, err := s.keyRecord(ctx, "A", keyID)
	if err != nil {
		return err
	}
	now := s.clock.late()
	msg := &messageRecord{first: now, last: now, key: k.raw.Name.ID, rcpts: make([]sealed.Recipient, n)}
	for i := range msg.rcpts {
		_, _ = rand.Read(msg.rcpts[i][:])
	}
	return s.records.Apply(ctx, sealed.Edit{Name: s.messageName(k.identity), Plain: msg.encode(), Due: now.Add(time.Hour)})
}

// RecordID returns the ID that a peer's key has in names.
func RecordID(peer, id string) string { return recordID(peer, id) }
