package keystore

import (
	"context"
	"crypto/rand"
	"time"
)

// Longest is the longest time in a policy.
const Longest = longest

// SetRunning gives a Manager another measure of how long it has run, for tests
// in which the clock is set and time goes on.
func (m *Manager) SetRunning(running func() time.Duration) { m.clock.running = running }

// Remembered returns the values that a Vault has in memory, and how many octets
// they are.
func (v *Vault) Remembered() (values [][]byte, octets int) {
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
func (m *Manager) Fill(ctx context.Context, keyID string, n int) error {
	k, err := m.keyRecord(ctx, asStored, "A", keyID)
	if err != nil {
		return err
	}
	now := m.clock.late()
	msg := &messageRecord{first: now, last: now, rcpts: make([][rcptSize]byte, n)}
	for i := range msg.rcpts {
		_, _ = rand.Read(msg.rcpts[i][:])
	}
	return m.vault.apply(ctx, edit{name: m.messageName(k.identity), plain: msg.encode(), due: now.Add(time.Hour)})
}

// RecordID returns the ID that a key of peer has in names.
func RecordID(peer, id string) string { return recordID(peer, id) }
