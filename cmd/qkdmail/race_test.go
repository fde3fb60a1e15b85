//go:build race

package main

// raceEnabled says that the race detector's own memory is in all figures.
const raceEnabled = true
