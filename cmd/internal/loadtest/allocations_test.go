package loadtest

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer"
)

// TestAllocations bounds what a relay allocates for a small message, client and
// sink included: at thousands of messages a second, garbage collection is much
// of a relay's work. The bounds are a quarter above the figures measured when
// they were set.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and empties pools: run without -race")
	}
	const messages = 1000
	plain := smtpkit.Message(4000)
	for _, tt := range []struct {
		direction mailer.Direction
		message   []byte
		allocs    uint64 // a message
		size      uint64
	}{
		{mailer.DirectionEncrypt, plain, 275, 25_000},
		{mailer.DirectionDecrypt, encrypted(t, new(smtpkit.Keys), plain), 415, 36_000},
	} {
		t.Run(string(tt.direction), func(t *testing.T) {
			address := inProcess(t, tt.direction, startSink(t, new(smtpkit.Sink)), nil)
			c, err := smtpkit.Dial(address, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Quit()
			send := func(n int) {
				for range n {
					if err := c.SendPipelined("alice@a.example", "bob@b.example", bytes.NewReader(tt.message)); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(100) // fills the pools, and dials the next hop
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			send(messages)
			runtime.ReadMemStats(&after)
			allocs, size := (after.Mallocs-before.Mallocs)/messages, (after.TotalAlloc-before.TotalAlloc)/messages
			t.Logf("%d allocations of %d bytes a message", allocs, size)
			if allocs > tt.allocs || size > tt.size {
				t.Errorf("%d allocations of %d bytes a message, want at most %d of %d", allocs, size, tt.allocs, tt.size)
			}
		})
	}
}
