package message

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// anything lets a header take any amount of memory.
func anything(int64) error { return nil }

func TestReader(t *testing.T) {
	field := "X: " + strings.Repeat("x", 100) + "\r\n"
	for _, tt := range []struct {
		name, in string
		fields   int
		reason   string
	}{
		{"usual", "A: 1\r\nB: 2\r\n\r\nbody", 2, ""},
		{"empty", "", 0, ""},
		{"no header", "\r\nbody", 0, ""},
		{"no body", "A: 1\r\n", 1, ""},
		{"cut", "A: 1\r\nB", 1, ""},
		{"largest", strings.Repeat(field, 9) + "\r\nbody", 9, ""},
		{"too large", strings.Repeat(field, 11) + "\r\nbody", 0, "header size"},
		{"no end in sight", strings.Repeat("x", 5000), 0, "header size"},
		{"lines that are no fields", "A: 1\r\nfoo\r\nB: 2\r\n\r\n", 2, ""},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			h, err := NewReader(&chunks{[]byte(tt.in), size}, 1024, anything)
			if reasonOf(err) != tt.reason {
				t.Errorf("%s: %v", tt.name, err)
			}
			if err != nil {
				continue
			}
			fields := len(slices.Collect(h.fields()))
			h.Pass()
			whole, _ := io.ReadAll(h)
			if fields != tt.fields || string(whole) != tt.in {
				t.Errorf("%s: %d fields, message %q", tt.name, fields, whole)
			}
		}
	}
}

// Fields that only the relay may write are removed, in all spellings, and nothing else is
// changed.
func TestDropOwnWords(t *testing.T) {
	for in, want := range map[string]string{
		"A: 1\r\nQkdmail-Result: 2\r\nB: 3\r\n\r\nQkdmail-Result: body":                "A: 1\r\nB: 3\r\n\r\nQkdmail-Result: body",
		"Qkdmail-Result: 1\r\n folded\r\n\tmore\r\nB: 3\r\n\r\n":                       "B: 3\r\n\r\n",
		"qkdmail-result: 1\r\nQKDMAIL-Result : 2\r\nA: 3\r\nQkdmail-Result\t:\r\n\r\n": "A: 3\r\n\r\n",
		"Qkdmail-Outer-Authentication-Results: mx; dkim=pass\r\nA: 1\r\n\r\n":          "A: 1\r\n\r\n",
		"qkdmail-outer-authentication-results : mx\r\nQkdmail-Else: x\r\n\r\n":         "\r\n",
		"A: 1\r\n\r\nbody":                    "A: 1\r\n\r\nbody",
		"Qkdmail-Result: 1":                   "",
		"A: 1\r\nfoo\r\nQkdmail-X: 2\r\n\r\n": "A: 1\r\nfoo\r\n\r\n",
		"Qkdmail: 1\r\nX-Qkdmail-Result: 2\r\nQkdmail-Key-ID: 3\r\n\r\n": "Qkdmail: 1\r\nX-Qkdmail-Result: 2\r\nQkdmail-Key-ID: 3\r\n\r\n",
	} {
		for _, size := range []int{1, 5, 1 << 20} {
			h, err := NewReader(&chunks{[]byte(in), size}, 1<<20, anything)
			if err != nil {
				t.Fatal(err)
			}
			h.DropOwnWords()
			if got, _ := io.ReadAll(h); string(got) != want {
				t.Errorf("%q without our own words is %q, want %q", in, got, want)
			}
		}
	}
}

// A memory bounds what a header may take.
type memory struct{ limit, taken int64 }

var errFull = errors.New("no memory left")

func (m *memory) take(n int64) error {
	if m.taken+n > m.limit {
		return errFull
	}
	m.taken += n
	return nil
}

// A long header takes memory until its message is done, even when it has been read.
func TestReaderMemory(t *testing.T) {
	m := &memory{limit: 1 << 20}
	header := strings.Repeat("a:\r\n", 50_000)
	h, err := NewReader(strings.NewReader(header+"\r\nbody"), 1<<20, m.take)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.taken; n < int64(len(header)-64<<10) || n > 1<<20 {
		t.Errorf("%d bytes taken for a header of %d", n, len(header))
	}
	if _, err := NewReader(strings.NewReader(strings.Repeat(header, 4)+"\r\nbody"), 1<<20, m.take); err != errFull {
		t.Errorf("error %v, want %v", err, errFull)
	}
	h.Pass()
	if whole, err := io.ReadAll(h); err != nil || string(whole) != header+"\r\nbody" {
		t.Errorf("%d bytes came back as %d, %v", len(header)+len("\r\nbody"), len(whole), err)
	}
	h.Free()
	if n := m.taken; n < int64(len(header)-64<<10) {
		t.Errorf("%d bytes are taken for a header of %d after all was read", n, len(header))
	}
}

// A message that is refused leaves nothing in the buffers.
func TestRefusedIsWiped(t *testing.T) {
	for name, bad := range map[string]string{"bare CR": "bare\rCR\r\n", "NUL": "nul\x00\r\n", "too large": strings.Repeat("x", 1000) + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			for range 5 { // the pool may hand out another block
				message := strings.NewReader("From: x@x.example\r\n\r\n" + strings.Repeat("very secret line\r\n", 1000) + bad)
				if _, err := NewReader(&Checker{Src: message, MaxSize: 18050}, 256<<10, anything); err == nil {
					t.Fatal("not refused")
				}
				if b := block.Get(); bytes.Contains(b[:], []byte("very secret")) {
					t.Fatal("a free block holds mail in clear")
				}
			}
		})
	}
}

// TestMessageID: the log shows IDs, and nothing else that a Message-ID field holds.
func TestMessageID(t *testing.T) {
	for field, want := range map[string]string{
		" <1@a.example>":                        "<1@a.example>",
		"\r\n <1@a.example> ":                   "<1@a.example>",
		" (about the \\) merger) <1@a.example>": "<1@a.example>",
		" <1@a.example> (about the merger)":     "<1@a.example>",
		" ((a) b) (c)\r\n\t<1@a.example> d":     "<1@a.example>",
		" <no-at>":                              "<no-at>",
		" 1@a.example":                          "1@a.example",
		" about the merger":                     "",
		" about the merger <1@a.example>":       "",
		" <about the merger>":                   "",
		" (about the merger":                    "",
		" (merger)":                             "",
		" >":                                    ">",
		"":                                      "",
	} {
		h, err := NewReader(strings.NewReader("A: 1\r\nMessage-ID:"+field+"\r\n\r\nbody"), 1024, anything)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.MessageID(); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
		h.Free()
	}
}
