//go:build !race

package cipher_test

// raceEnabled says that the race detector's own memory is in all figures.
const raceEnabled = false
