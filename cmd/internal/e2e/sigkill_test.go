package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestSIGKILL kills both relays at random, again and again, while many numbered
// messages are on their way. Every message arrives, and none is on the wire in
// clear. A message may arrive twice only if a relay was killed between the two
// 250s, its next hop's and its own.
//
// QKDMAIL_CRASH_MESSAGES is the number of messages (2000), and QKDMAIL_CRASH_SEED
// the seed of a run to repeat.
func TestSIGKILL(t *testing.T) {
	needsPostfix(t)
	number := relaytest.Number(t, "QKDMAIL_CRASH_MESSAGES", 2000)
	seed := relaytest.Seed(t, "QKDMAIL_CRASH_SEED")
	w := newWorld(t, options{})
	const secret = "numbered-and-never-in-clear"
	const connections = 20

	start := time.Now()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		sendAll(t, w.a.ports[portOwn], number, connections, func(i int) ([]string, []byte) {
			// Half of them a few kB, under either suite.
			filler := strings.Repeat("0123456789 the quick brown fox\r\n", i%2*(i%200))
			text := fmt.Sprintf("From: alice@a.example\r\nTo: bob@b.example\r\nSubject: %s\r\nX-Number: %d\r\n\r\n%s%s\r\n", secret, i, filler, secret)
			return []string{numbered(i)}, []byte(text)
		})
	}()
	stop := start.Add(time.Duration(number) * 30 * time.Millisecond)
	kills := killer(t, w, seed, func() bool { return distinct(w.b.sink) < number && time.Now().Before(stop) })
	<-sent
	w.a.startRelay(t)
	w.b.startRelay(t)
	// The last messages wait for their next try.
	relaytest.Await(t, 2*time.Minute, fmt.Sprintf("%d messages", number), func() bool {
		_, _ = w.a.flush(), w.b.flush()
		time.Sleep(200 * time.Millisecond)
		return distinct(w.b.sink) >= number && w.a.queue(t) == "" && w.b.queue(t) == ""
	})
	took := time.Since(start).Round(time.Second)

	// A message that arrived twice was encrypted twice, with two keys, or decrypted
	// twice.
	byEncrypt, byDecrypt, most := 0, 0, 0
	for i := range number {
		copies := w.b.sink.to(numbered(i))
		keys := map[string]bool{}
		for _, m := range copies {
			keys[keyID(m.data)] = true
			if !bytes.Contains(m.data, fmt.Appendf(nil, "\r\nX-Number: %d\r\n", i)) || !bytes.HasSuffix(m.data, []byte(secret+"\r\n")) {
				t.Errorf("message %d is not whole:\n%.2000s", i, m.data)
			}
		}
		if len(copies) == 0 {
			t.Errorf("message %d has not arrived", i)
			continue
		}
		byEncrypt += len(keys) - 1
		byDecrypt += len(copies) - len(keys)
		most = max(most, len(copies))
	}
	if n := len(w.a.sink.all()); n > 0 {
		t.Errorf("%d bounces, the first:\n%.3000s", n, w.a.sink.all()[0].data)
	}
	if w.ab.saw(secret) || w.ba.saw(secret) {
		t.Error("a message went over the wire in clear")
	}
	// For each repeat, Postfix reports that it sent the whole message and got no
	// answer.
	lostA := 0
	for line := range strings.Lines(w.a.read("mail.log")) {
		if strings.Contains(line, "qkd-encrypt/lmtp") && strings.Contains(line, "status=deferred (lost connection") &&
			strings.Contains(line, "message may be sent more than once") {
			lostA++
		}
	}
	lostB := strings.Count(w.b.read("mail.log"), "proxy-reject: END-OF-MESSAGE: 451")
	t.Logf("%d messages in %v, %d kills: all arrived; %d twice because the encrypting relay was killed between the two 250s (of %d without an answer), %d because the decrypting one was (of %d); at most %d copies of one",
		number, took, kills, byEncrypt, lostA, byDecrypt, lostB, most)
	if byEncrypt > lostA || byDecrypt > lostB {
		t.Error("more messages arrived twice than answers were lost")
	}
}

func numbered(i int) string {
	if i%3 == 0 {
		return fmt.Sprintf("n%d@aes.b.example", i)
	}
	return fmt.Sprintf("n%d@b.example", i)
}

// distinct counts the recipients that have got their message.
func distinct(s *sink) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, m := range s.mail {
		seen[m.to[0]] = true
	}
	return len(seen)
}

var keyIDField = regexp.MustCompile(`\tkey-id=(\S+)`)

func keyID(data []byte) string {
	if m := keyIDField.FindSubmatch(data); m != nil {
		return string(m[1])
	}
	return ""
}

// killer kills one relay after the other with SIGKILL and starts it again, while
// more returns true. It returns the number of kills.
func killer(t *testing.T, w *world, seed uint64, more func() bool) (kills int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	pause := func(most int) { time.Sleep(time.Duration(random.IntN(most)) * time.Millisecond) }
	for ; more(); kills++ {
		s := w.a
		if random.IntN(2) == 0 {
			s = w.b
		}
		pause(800)
		s.kill()
		pause(100)
		s.startRelay(t)
	}
	return kills
}
