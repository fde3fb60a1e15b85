//go:build race

package main

// raceEnabled reports whether the race detector's memory is in all figures.
const raceEnabled = true
