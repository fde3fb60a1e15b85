package loadtest

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpkit"
)

// TestAllocations bounds what a relay allocates for a small message, client and
// sink included. What is allocated is collected, and at thousands of messages a
// second that is much of what a relay does. The bounds are a quarter above what
// was measured when they were set.
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
		octets    uint64
	}{
		{mailer.DirectionEncrypt, plain, 275, 25_000},
		{mailer.DirectionDecrypt, encrypted(t, plain), 415, 36_000},
	} {
		t.Run(string(tt.direction), func(t *testing.T) {
			address := inProcess(t, tt.direction, startSink(t, new(smtpkit.Sink)))
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
			allocs, octets := (after.Mallocs-before.Mallocs)/messages, (after.TotalAlloc-before.TotalAlloc)/messages
			t.Logf("%d allocations of %d octets a message", allocs, octets)
			if allocs > tt.allocs || octets > tt.octets {
				t.Errorf("%d allocations of %d octets in all a message, want at most %d of %d", allocs, octets, tt.allocs, tt.octets)
			}
		})
	}
}

// inProcess runs a relay in this process, with keys that cost nothing.
func inProcess(t *testing.T, d mailer.Direction, sink string) (address string) {
	t.Helper()
	cfg, err := mailer.QuickConfig(mailer.QuickOptions{Direction: d, Listen: "127.0.0.1:0", NextHop: sink, KM: mailer.KMConfig{URL: "mock:unused"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.Rules {
		cfg.Rules[i].Suite = string(cipher.SuiteAES256GCM)
	}
	relay, err := mailer.NewRelay(cfg, new(smtpkit.Keys), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := relay.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- relay.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return relay.Addrs()[0].String()
}

// encrypted is what a relay makes of a message.
func encrypted(t *testing.T, message []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &out, new(smtpkit.Keys), &cipher.EncryptOptions{LineEnd: cipher.LineEndCRLF})
	if err == nil {
		_, err = w.Write(message)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
