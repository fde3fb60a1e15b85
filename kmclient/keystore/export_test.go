package keystore

import (
	"context"
	"crypto/rand"
	"time"
)

// Longest is the longest time in a policy.
const Longest = longest

// SetRunning gives a Store another measure of how long it has run, for tests
// in which the clock is set and time goes on.
func (s *Store) SetRunning(running func() time.Duration) { s.clock.running = running }

// Remembered returns the values that a Store has in memory, and how many octets
// they are.
func (s *Store) Remembered() (values [][]byte, octets int) {
	v := s.sealed
	v.recent.mu.Lock()
	defer v.recent.mu.Unlock()
	for _, records := range []map[Name]seen{v.recent.young, v.recent.old} {
		for _, s := range records {
			if s.record != nil {
				values = append(values, s.record.Value)
				octets += len(s.record.Value)
			}
		}
	}
	return values, octets
}

// Fill has the message of a key delivered to n recipients, whoever they are.
func (s *Store) Fill(ctx context.Context, keyID string, n int) error {
	k, err := s.keyRecord(ctx, asStored, "A", keyID)
	if err != nil {
		return err
	}
	now := s.clock.late()
	msg := &messageRecord{first: now, last: now, rcpts: make([][rcptSize]byte, n)}
	for i := range msg.rcpts {
		_, _ = rand.Read(msg.rcpts[i][:])
	}
	return s.sealed.apply(ctx, edit{name: s.messageName(k.identity), plain: msg.encode(), due: now.Add(time.Hour)})
}

// RecordID returns the ID that a key of peer has in names.
func RecordID(peer, id string) string { return recordID(peer, id) }
