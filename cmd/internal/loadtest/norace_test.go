//go:build !race

package loadtest

// raceEnabled says whether all figures include the race detector's own memory.
const raceEnabled = false
