package crashtest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A setting is some decrypting relays that share a store.
type setting struct {
	name  string
	mta   *mta
	rates []float64 // messages a second, by round
}

// TestThroughput measures how many messages a second are decrypted by one, two and
// four relays with a store in PostgreSQL, relative to one relay with a store in a
// file. Everything runs on one machine, including the primary and its standby, so
// this shows what sharing costs, not what more machines gain.
func TestThroughput(t *testing.T) {
	if os.Getenv(secondsEnv) == "" {
		t.Skip("SKIPPED: a measurement, not a test; scripts/crash-store runs it")
	}
	const rounds, messages = 4, 200 // the first round does not count
	link := newLink(t, "")
	o := &order{}
	var arrived atomic.Int64
	sink := relaytest.MailServer{Take: func(_ string, _ []string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		arrived.Add(1)
		return err
	}}.Start(t)
	settings := []*setting{newSetting(t, o, link, "one with SQLite", 1, inSQLite(t.TempDir()), sink)}
	p := startPair(t)
	for _, n := range []int{1, 2, 4} {
		settings = append(settings, newSetting(t, o, link, fmt.Sprintf("%d with PostgreSQL", n), n, p.store(fmt.Sprintf("throughput%d", n)), sink))
	}
	km := link.Client("SAE_A")
	text := []byte("From: alice@a.example\r\nTo: bob@b.example\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 30))
	for round := range rounds {
		for _, s := range settings {
			var jobs []*job
			for n := range messages {
				suite := []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP}[n%2]
				jobs = append(jobs, &job{letter: &letter{from: "alice@a.example", data: seal(t, km, suite, text)}, rcpts: []string{"bob@b.example"}})
			}
			start := time.Now()
			for _, j := range jobs {
				s.mta.add(j)
			}
			relaytest.Await(t, time.Minute, "all messages of "+s.name, func() bool { return s.mta.pending.Load() == 0 })
			if round > 0 {
				s.rates = append(s.rates, messages/time.Since(start).Seconds())
			}
		}
	}
	if want := int64(rounds * messages * len(settings)); arrived.Load() != want {
		t.Errorf("%d messages arrived, want %d", arrived.Load(), want)
	}
	base := settings[0].median()
	var ratios []string
	for _, s := range settings[1:] {
		ratios = append(ratios, fmt.Sprintf("%s %.2f", s.name, s.median()/base))
	}
	t.Logf("messages of %d bytes decrypted, relative to one relay with SQLite (%.0f/s): %s", len(text), base, strings.Join(ratios, ", "))
}

func newSetting(t testing.TB, o *order, l *link, name string, relays int, store storeOf, nextHop string) *setting {
	t.Helper()
	var all []*relay
	for i := range relays {
		all = append(all, newRelay(t, o, l, decrypt, fmt.Sprintf("decrypt%d", i), store, nextHop))
	}
	logAtEnd(t, all)
	startAll(t, all)
	s := &setting{name: name, mta: newMTA(t, o, 1, all, false, 64)}
	s.mta.answered = func(*job, *try) {}
	s.mta.refused = func(_ *job, _, why string) { t.Errorf("%s: refused: %s", name, why) }
	return s
}

func (s *setting) median() float64 {
	rates := slices.Sorted(slices.Values(s.rates))
	return rates[len(rates)/2]
}
