package keystore

import "time"

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
