//go:build !race

package loadtest

// raceEnabled says that the race detector's own memory is in all figures.
const raceEnabled = false
