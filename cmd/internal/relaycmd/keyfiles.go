package relaycmd

import (
	"maps"
	"os"
	"slices"
	"time"
)

// lookEvery is how often a relay checks whether key files have changed.
const lookEvery = 10 * time.Second

// keyFiles are files with X-Wing keys, as they were at the last look; nil for a file
// that did not exist.
type keyFiles map[string]os.FileInfo

// lookAt looks at files. Call it before they are read, or a change in between is
// missed.
func lookAt(files []string) keyFiles {
	seen := keyFiles{}
	for _, name := range files {
		seen[name], _ = os.Stat(name) // its reader reports errors
	}
	return seen
}

// again looks at the same files once more, and reports whether one has changed.
func (k keyFiles) again() (seen keyFiles, changed bool) {
	seen = lookAt(slices.Collect(maps.Keys(k)))
	return seen, !maps.EqualFunc(k, seen, sameFile)
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}
