package mailer

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"net/textproto"
	"strings"
	"testing"
)

func TestUndo(t *testing.T) {
	for in, want := range map[string]string{
		".\r\n":                      "|",
		"a\r\n.\r\nQUIT\r\n":         "a\r\n|QUIT\r\n",
		"a\r\n..\r\n.\r\n":           "a\r\n.\r\n|",
		"..a\r\n.b\r\n.\r\n":         ".a\r\nb\r\n|",
		"a\n.\n.\r\n\r\n.\r\n":       "a\n.\n.\r\n\r\n|",
		"a\r\n.\n\r\n.\r\n":          "a\r\n\n\r\n|",
		"a\n.\r\nb\r\n.\r\n":         "a\n.\r\nb\r\n|",
		"a\r.\r\nb\r\n.\r\n":         "a\r.\r\nb\r\n|",
		"a\r\r\n.\r\n\r\n.\r\n":      "a\r\r\n.\r\n\r\n|", // CR CR LF is no line end to go-smtp
		"\r\n.\r\nMAIL FROM:<>\r\n":  "\r\n|MAIL FROM:<>\r\n",
		"a\r\n.\r\r\n.\r\n\r\n.\r\n": "a\r\n\r\n.\r\n\r\n|",
	} {
		for size := 1; size <= len(in)+1; size++ {
			if got := undone(in, size); got != want {
				t.Errorf("%q in pieces of %d: %q, want %q", in, size, got, want)
			}
		}
	}
}

// undone is what undo makes of DATA that comes in pieces, a bar, and the rest.
func undone(in string, size int) string {
	var d dataState
	var out bytes.Buffer
	for in != "" {
		piece := []byte(in[:min(size, len(in))])
		dst := make([]byte, 1+len(in)%3)
		if len(piece)%2 == 0 {
			dst = piece // as DATA is read
		}
		n, used, end := d.undo(dst, piece)
		out.Write(dst[:n])
		in = in[used:]
		if end {
			return out.String() + "|" + in
		}
	}
	return out.String()
}

// TestUndoRandom compares with go-smtp's own way on random lines.
func TestUndoRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var in strings.Builder
		for range random.IntN(30) {
			in.WriteString([]string{".", "\r", "\n", "a", "\r\n", "\r\n.", "\r\n.\r\n"}[random.IntN(7)])
		}
		want := undoneGoSMTP(in.String())
		if got := undone(in.String(), 1+random.IntN(60)); got != want {
			t.Fatalf("%q: %q, want %q", in.String(), got, want)
		}
	}
}

// undoneGoSMTP is what go-smtp makes of it.
func undoneGoSMTP(in string) string {
	out, used, _, end := undoLikeGoSMTP([]byte(in))
	if end {
		return string(out) + "|" + in[used:]
	}
	return string(out)
}

// TestDataWriter compares with net/textproto, which go-smtp uses.
func TestDataWriter(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	long := strings.Repeat("x", len(block{}))
	for range 20_000 {
		var out, want bytes.Buffer
		w := newDataWriter(&out)
		dots := textproto.NewWriter(bufio.NewWriter(&want)).DotWriter()
		for range random.IntN(20) {
			p := []byte([]string{".", "a", "\n", "\r\n", "\r\n.", "..", "\r\n\r\n", ".\r\n"}[random.IntN(8)])
			if random.IntN(200) == 0 {
				p = []byte(strings.Repeat([]string{long, "\n", ".\n", "\r\n"}[random.IntN(4)], 1+random.IntN(3)))
			}
			if n, err := w.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			_, _ = dots.Write(p)
		}
		_ = dots.Close()
		got := out.String() + string(w.rest()) + "\r\n.\r\n"
		w.free()
		if got != want.String() {
			t.Fatalf("%.200q, want %.200q", got, want.String())
		}
	}
}

// TestDataWriterFails: the connection's error stays, and no octet is written
// after it.
func TestDataWriterFails(t *testing.T) {
	conn := &failing{after: 1}
	w := newDataWriter(conn)
	defer w.free()
	big := bytes.Repeat([]byte("0123456789\r\n"), 10_000)
	if _, err := w.Write(big); err != errFailing {
		t.Errorf("Write: %v", err)
	}
	if _, err := w.Write(big); err != errFailing || conn.calls != 2 {
		t.Errorf("Write: %v after %d writes", err, conn.calls)
	}
}

var errFailing = errors.New("failing")

type failing struct{ calls, after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.calls++; f.calls > f.after {
		return 0, errFailing
	}
	return len(p), nil
}

func TestHasEightBit(t *testing.T) {
	for size := range 40 {
		p := bytes.Repeat([]byte{0x7F}, size)
		if hasEightBit(p) {
			t.Errorf("%d octets of 0x7F", size)
		}
		for i := range p {
			p[i] = 0x80
			if !hasEightBit(p) {
				t.Errorf("0x80 at %d of %d", i, size)
			}
			p[i] = 0x7F
		}
	}
}
