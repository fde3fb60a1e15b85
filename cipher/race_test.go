//go:build race

package cipher_test

// raceEnabled tells whether all figures include the race detector's own memory.
const raceEnabled = true
