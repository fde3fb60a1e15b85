package loadtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
)

const (
	bigMessage = 1 << 30  // octets
	mostMemory = 64 << 10 // KiB resident
)

// TestRelayMemory sends 1 GiB through an encrypting and a decrypting relay, and
// reads from the kernel how much memory each of the two took at most.
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
	t.Logf("%d octets in %.1f s", bigMessage, time.Since(begin).Seconds())
	if !bytes.Equal(m.sum.Sum(nil), <-restored) {
		t.Error("the restored message is another")
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

// firstLine begins the messages here: what is above it is the relay's.
const firstLine = "From: load@a.example\r\n"

// skipTrace reads up to and with the first line of the original.
func skipTrace(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == firstLine {
			return
		}
	}
}

// A big is a message that is nowhere as a whole, of lines that are all
// different; some begin with a dot.
type big struct{ sum hash.Hash }

// WriteTo writes it.
func (b *big) WriteTo(w io.Writer) (int64, error) {
	block := []byte(firstLine + "Subject: big\r\n\r\n")
	for n, size := 0, int64(0); ; n++ {
		if len(block) >= 32<<10 || size+int64(len(block)) >= bigMessage {
			_, _ = b.sum.Write(block)
			m, err := w.Write(block)
			size += int64(m)
			if err != nil || size >= bigMessage {
				return size, err
			}
			block = block[:0]
		}
		if n%10 == 0 {
			block = append(block, '.')
		}
		block = fmt.Appendf(block, "%075d\r\n", n)
	}
}
