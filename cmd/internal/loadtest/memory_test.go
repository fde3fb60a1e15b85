package loadtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
)

const (
	bigMessage = 1 << 30  // bytes
	mostMemory = 64 << 10 // KiB resident
)

// TestRelayMemory sends 1 GiB through an encrypting and a decrypting relay, and
// checks the peak memory of each.
func TestRelayMemory(t *testing.T) {
	needsFigures(t)
	restored := make(chan []byte, 1)
	sink := startSink(t, &smtpkit.Sink{Take: func(message io.Reader) {
		sum := sha256.New()
		r := bufio.NewReaderSize(message, 64<<10)
		skipTrace(r)
		_, _ = io.WriteString(sum, firstLine)
		_, _ = r.WriteTo(sum)
		restored <- sum.Sum(nil)
	}})
	encrypt, decrypt := startChain(t, sink)
	c, err := smtpkit.Dial(encrypt.address, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	m := &big{sum: sha256.New()}
	begin := time.Now()
	if err := c.Send("load@a.example", "bob@b.example", m); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes in %.1f s", bigMessage, time.Since(begin).Seconds())
	if !bytes.Equal(m.sum.Sum(nil), <-restored) {
		t.Error("the restored message is not the original")
	}
	for _, r := range []*relayProcess{encrypt, decrypt} {
		_, most := r.memory(t)
		t.Logf("%s: %d KiB at most", r.direction, most)
		if most > mostMemory {
			t.Errorf("%s took %d KiB of memory, want %d at most", r.direction, most, mostMemory)
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
}

// firstLine is the first line of messages here, as in smtpkit.Message: the relay
// puts fields above it.
const firstLine = "From: Alice <alice@a.example>\r\n"

// skipTrace reads up to the first line of the original, and that line.
func skipTrace(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == firstLine {
			return
		}
	}
}

// A big is a message that is never in memory as a whole.
type big struct{ sum hash.Hash }

// WriteTo writes it.
func (b *big) WriteTo(w io.Writer) (int64, error) {
	return bigMessage, smtpkit.WriteMessage(io.MultiWriter(w, b.sum), bigMessage)
}
