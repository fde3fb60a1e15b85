//go:build !linux

package cli

// noCoreDumps does nothing: on this system, core dumps must be disabled by hand.
func noCoreDumps() {}
