//go:build !linux

package cli

// noCoreDumps does nothing here: switch core dumps off where the system lets
// you.
func noCoreDumps() {}
