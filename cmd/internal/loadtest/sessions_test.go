package loadtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
)

const heldSessions = 500

// TestRelay500Sessions holds 500 sessions open, every other one in the middle of
// DATA, and then ends them: each message arrives once and complete.
func TestRelay500Sessions(t *testing.T) {
	needsFigures(t)
	var mu sync.Mutex
	came := map[string]int{}
	sink := startSink(t, &smtpkit.Sink{Take: func(message io.Reader) {
		r := bufio.NewReader(message)
		skipTrace(r)
		rest, _ := io.ReadAll(r)
		mu.Lock()
		defer mu.Unlock()
		came[firstLine+string(rest)]++
	}})
	encrypt, decrypt := startChain(t, sink)
	clients := make([]*smtpkit.Client, heldSessions)
	each(t, func(i int) (err error) {
		if clients[i], err = smtpkit.Dial(encrypt.address, time.Minute); err != nil || i%2 == 1 {
			return err
		}
		if err := clients[i].Begin("load@a.example", "bob@b.example"); err != nil {
			return err
		}
		_, err = clients[i].Write(numbered(i)[:halfway])
		return err
	})
	for _, c := range clients {
		_ = c.Flush()
	}
	time.Sleep(time.Second) // the relays have everything
	for _, r := range []*relayProcess{encrypt, decrypt} {
		now, _ := r.memory(t)
		t.Logf("%s: %d KiB with %d sessions held, %d of them in DATA", r.direction, now, heldSessions, heldSessions/2)
	}
	if len(came) > 0 {
		t.Errorf("%d messages arrived before their end", len(came))
	}
	each(t, func(i int) error {
		message := numbered(i)
		if i%2 == 1 {
			return clients[i].Send("load@a.example", "bob@b.example", bytes.NewReader(message))
		}
		if _, err := clients[i].Write(message[halfway:]); err != nil {
			return err
		}
		return clients[i].End()
	})
	each(t, func(i int) error { return clients[i].Quit() })
	for _, r := range []*relayProcess{encrypt, decrypt} {
		_, most := r.memory(t)
		t.Logf("%s: %d KiB at most", r.direction, most)
		if most > 256<<10 {
			t.Errorf("%s took %d KiB of memory", r.direction, most)
		}
	}
	for i := range heldSessions {
		if n := came[string(numbered(i))]; n != 1 {
			t.Errorf("message %d arrived %d times", i, n)
		}
	}
	if len(came) != heldSessions {
		t.Errorf("%d messages arrived, want %d", len(came), heldSessions)
	}
}

// halfway is an offset at the end of a line.
const halfway = len(firstLine) + len("Subject: 123\r\n\r\n") + 20_000*len("123\r\n")

// numbered returns a message of about 200 kB, half of which is more than a chunk.
func numbered(i int) []byte {
	return []byte(fmt.Sprintf("%sSubject: %03d\r\n\r\n", firstLine, i) + strings.Repeat(fmt.Sprintf("%03d\r\n", i), 40_000))
}

// each calls do for all sessions at the same time.
func each(t *testing.T, do func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range heldSessions {
		wg.Go(func() {
			if err := do(i); err != nil {
				t.Errorf("session %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
