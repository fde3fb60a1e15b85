package postgres_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// What one message costs: its key stored, bound, delivered. A server whose standby has
// each commit too, and one that has none.
func BenchmarkMessage(b *testing.B) {
	for _, name := range []string{"single", "pair"} {
		b.Run(name, func(b *testing.B) {
			start := pgtest.Start
			if name == "pair" {
				start = func(t testing.TB, settings ...string) *pgtest.Server {
					primary, _ := pgtest.StartPair(t, settings...)
					return primary
				}
			}
			url := start(b).URL()
			if err := postgres.Init(b.Context(), url); err != nil {
				b.Fatal(err)
			}
			s, err := postgres.Open(b.Context(), postgres.Options{URL: url})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			v, err := keystore.Open(b.Context(), s, keystore.MadeKeyFile(filepath.Join(b.TempDir(), "store.key"), nil), nil)
			if err != nil {
				b.Fatal(err)
			}
			m, err := keystore.New(&storetest.Link{}, v, keystore.Options{KM: "km", SAE: "B"})
			if err != nil {
				b.Fatal(err)
			}
			for _, sessions := range []int{1, 20} {
				b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) { storetest.Messages(b, m, b.N, sessions) })
			}
		})
	}
}
