package postgres_test

import (
	"fmt"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// The cost of storing, binding and delivering a message's key, on one server and on one
// with a synchronous standby.
func BenchmarkMessage(b *testing.B) {
	for _, servers := range []int{1, 2} {
		b.Run(fmt.Sprintf("servers=%d", servers), func(b *testing.B) {
			var primary *pgtest.Server
			if servers == 1 {
				primary = pgtest.Start(b)
			} else {
				primary, _ = pgtest.StartPair(b)
			}
			m := newStore(b, openEngine(b, newSchema(b, primary)))
			for _, sessions := range []int{1, 20} {
				b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
					storetest.Messages(b, m, b.N, sessions)
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
				})
			}
		})
	}
}
