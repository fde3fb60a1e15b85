//go:build unix && !linux

package terminal

// sameOpening can't be found out here.
func sameOpening(int, int) bool { return false }
