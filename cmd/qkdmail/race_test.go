//go:build race

package main

// raceEnabled says whether all figures include the race detector's memory.
const raceEnabled = true
