//go:build !linux

package main

// noCoreDumps does nothing here: switch core dumps off where the system lets
// you.
func noCoreDumps() {}
