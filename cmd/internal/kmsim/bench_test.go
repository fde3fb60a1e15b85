package kmsim

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Keys go through both KMEs over mutual TLS: enc_keys and dec_keys, batch keys
// each.
func BenchmarkETSI(b *testing.B) {
	for _, callers := range []int{1, 32} {
		for _, batch := range []int{1, 128} {
			b.Run(fmt.Sprintf("callers=%d/batch=%d", callers, batch), func(b *testing.B) {
				benchETSI(b, start(b, Options{}), callers, batch)
			})
		}
	}
}

func benchETSI(b *testing.B, s *site, callers, batch int) {
	s.enc(`{}`) // makes the clients
	s.dec("x")
	var mu sync.Mutex
	var took []time.Duration
	work := make(chan struct{}, callers)
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for range work {
				begin := time.Now()
				m, err := s.try("SAE_A", atA, "POST", encB, fmt.Sprintf(`{"number":%d}`, batch))
				if err == nil && m.status == 200 {
					_, ids := m.keys(b)
					m, err = s.try("SAE_B", atB, "POST", decA, idList(ids...))
				}
				if err != nil || m.status != 200 {
					b.Errorf("HTTP %d, %v", m.status, err)
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "keys/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
