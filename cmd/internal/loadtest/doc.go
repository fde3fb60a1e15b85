// Package loadtest has tests of the relay that need much memory or many
// clients: large messages, sessions held open, slow clients, allocations.
package loadtest
