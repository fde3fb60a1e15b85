package keystore

import "time"

// SetRunning gives a Manager another measure of how long it has run, for tests
// in which the clock is set and time goes on.
func (m *Manager) SetRunning(running func() time.Duration) { m.clock.running = running }
