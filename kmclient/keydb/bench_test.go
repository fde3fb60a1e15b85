package keydb

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var stored = []int{100, 10_000, 100_000}

// filled returns a database on disk that holds n keys of 256 bits.
func filled(b *testing.B, n int, g Grant) *DB {
	db := open(b, filepath.Join(b.TempDir(), "keys.db"))
	for left := n; left > 0; left -= 1000 {
		put(b, db, "A/B", g, min(left, 1000))
	}
	return db
}

// One key put and fetched, which deletes it: two commits.
func BenchmarkPutFetch(b *testing.B) {
	grant, claim := Grant{Master: "A", Readers: []string{"B"}}, Claim{Master: "A", Reader: "B"}
	for _, n := range stored {
		b.Run(fmt.Sprintf("stored=%d", n), func(b *testing.B) {
			db := filled(b, n, grant)
			for b.Loop() {
				keys := put(b, db, "A/B", grant, 1)
				if _, err := db.Fetch(context.Background(), claim, keys[0].ID()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("stored=%d/callers=32", n), func(b *testing.B) {
			db := filled(b, n, grant)
			b.SetParallelism(16) // times GOMAXPROCS
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					keys := put(b, db, "A/B", grant, 1)
					if _, err := db.Fetch(context.Background(), claim, keys[0].ID()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// The reference system's way: its JSON file is written anew with every key
// that comes or goes.
func BenchmarkReferenceJSON(b *testing.B) {
	type file struct {
		Keys      map[string]string `json:"keys"`
		Generated int               `json:"keys_generated"`
	}
	save := func(path string, f *file) {
		text, err := json.MarshalIndent(f, "", "  ")
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, n := range stored {
		b.Run(fmt.Sprintf("stored=%d", n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "keys.json")
			f := &file{Keys: map[string]string{}}
			add := func() string {
				octets := make([]byte, 32)
				_, _ = rand.Read(octets)
				id := fmt.Sprintf("MOCK-KEY-%08d-20251012195642", f.Generated)
				f.Generated++
				f.Keys[id] = base64.StdEncoding.EncodeToString(octets)
				return id
			}
			for range n {
				add()
			}
			for b.Loop() {
				id := add()
				save(path, f)
				delete(f.Keys, id)
				save(path, f)
			}
		})
	}
}
