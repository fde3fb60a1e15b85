package envelope

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
)

// referenceLines returns what a base64Writer must write, made with encoding/base64
// line by line.
func referenceLines(payload []byte, eol string) string {
	text := base64.StdEncoding.EncodeToString(payload)
	var b strings.Builder
	for len(text) > 0 {
		n := min(len(text), lineColumns)
		b.WriteString(text[:n] + eol)
		text = text[n:]
	}
	return b.String()
}

// referenceDecode returns what a base64Decoder must return, made with
// encoding/base64 line by line.
func referenceDecode(text string) ([]byte, bool) {
	var quads strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		if l, ok := strings.CutSuffix(line, "\n"); ok {
			line = strings.TrimSuffix(l, "\r")
		}
		quads.WriteString(line)
	}
	if strings.Contains(quads.String(), "\r") {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(quads.String())
	return b, err == nil
}

// sizes returns sizes near those where something begins or ends: vector registers,
// lines, chunks, a writer's buffer.
func sizes() (all []int) {
	for n := range 200 {
		all = append(all, n)
	}
	lines := buffer.TextSize / (lineColumns + 2)
	for blocks := 1; blocks <= 4; blocks++ {
		for _, block := range []int{lineBytes * 32, 65536, 65536 + 16, lines * lineBytes, flushSize / 78 * lineBytes} {
			for d := -3; d <= 3; d++ {
				all = append(all, blocks*block+d)
			}
		}
	}
	return all
}

func randomOctets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// TestBase64Writer compares with encoding/base64, for payloads and writes of many
// sizes.
func TestBase64Writer(t *testing.T) {
	for _, size := range sizes() {
		payload := randomOctets(size)
		for _, crlf := range []bool{false, true} {
			eol := map[bool]string{false: "\n", true: "\r\n"}[crlf]
			want := referenceLines(payload, eol)
			for _, step := range []int{1, 56, 57, 58, 4096, 65552, size + 1} {
				if size > 10_000 && step < 4096 || size > 70_000 && step == 4096 {
					continue // slow, and tests nothing new
				}
				var out bytes.Buffer
				w := newBase64Writer(&out, crlf)
				for rest := payload; len(rest) > 0; rest = rest[min(step, len(rest)):] {
					if n, err := w.Write(rest[:min(step, len(rest))]); err != nil || n != min(step, len(rest)) {
						t.Fatal(n, err)
					}
				}
				if err := w.endLine(); err != nil {
					t.Fatal(err)
				}
				if err := w.flush(); err != nil {
					t.Fatal(err)
				}
				w.free()
				if out.String() != want {
					t.Fatalf("%d bytes in writes of %d, CRLF %v: not what encoding/base64 makes", size, step, crlf)
				}
			}
		}
	}
}

// TestWritesAreLarge checks that all writes but the last are large.
func TestWritesAreLarge(t *testing.T) {
	for _, size := range []int{100, 50_000, 500_000} {
		var writes []int
		w, err := NewWriter(writerFunc(func(p []byte) (int, error) {
			writes = append(writes, len(p))
			return len(p), nil
		}), WriterOptions{Control: testControl, Note: "note"})
		if err != nil {
			t.Fatal(err)
		}
		for payload := make([]byte, size); len(payload) > 0; payload = payload[min(len(payload), 65552):] {
			if _, err := w.Write(payload[:min(len(payload), 65552)]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for i, n := range writes {
			if n < flushSize && i < len(writes)-1 {
				t.Errorf("%d bytes: write %d of %d has %d bytes, want at least %d", size, i, len(writes), n, flushSize)
			}
		}
	}
}

// TestWriterIsFinal checks that nothing is written after Close or Free.
func TestWriterIsFinal(t *testing.T) {
	for name, end := range map[string]func(*Writer){
		"Close": func(w *Writer) { _ = w.Close() },
		"Free":  (*Writer).Free,
	} {
		w, err := NewWriter(io.Discard, WriterOptions{Control: testControl})
		if err != nil {
			t.Fatal(err)
		}
		end(w)
		if _, err := w.Write(make([]byte, 100)); err == nil {
			t.Errorf("Write after %s succeeded", name)
		}
		if err := w.Close(); err == nil {
			t.Errorf("Close after %s succeeded", name)
		}
		w.Free()
	}
}

// TestWalkerIsWiped checks that the reader of a message, which may be mail in clear, is
// wiped before it returns to the pool.
func TestWalkerIsWiped(t *testing.T) {
	for _, size := range []int{100, bufferSize, 3 * bufferSize} {
		w := newWalker(strings.NewReader(strings.Repeat("secret", size/6)))
		held, _ := w.br.Peek(bufferSize)
		held = held[:min(len(held), size)]
		w.free()
		if i := bytes.IndexByte(held, 's'); i >= 0 || len(held) == 0 {
			t.Errorf("%d bytes: the buffer still holds what was read, at %d", size, i)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// decodeText reads text as the payload of a message.
func decodeText(text string, oneByOne bool) ([]byte, error) {
	const before = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/vnd.qkdmail\n\n"
	message := before + testControl.Text() + "--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n" + text
	if !strings.HasSuffix(text, "\n") && text != "" {
		message += "\n"
	}
	r := strings.NewReader(message + "--b--\n")
	if oneByOne {
		_, got, err := read(iotest.OneByteReader(r))
		return got, err
	}
	_, got, err := read(r)
	return got, err
}

// TestBase64Reader reads lines of many lengths.
func TestBase64Reader(t *testing.T) {
	for _, size := range sizes() {
		payload := randomOctets(size)
		dense := base64.StdEncoding.EncodeToString(payload)
		for _, columns := range []int{1, 3, 75, 76, 998, 70_000} {
			for _, eol := range []string{"\n", "\r\n"} {
				if size > 200 && columns < 64 || size > 140_000 && columns != 76 {
					continue
				}
				var text strings.Builder
				for rest := dense; len(rest) > 0; rest = rest[min(len(rest), columns):] {
					text.WriteString(rest[:min(len(rest), columns)] + eol)
				}
				if got, err := decodeText(text.String(), false); err != nil || !bytes.Equal(got, payload) {
					t.Fatalf("%d bytes in lines of %d that end with %q: got %d, error %v", size, columns, eol, len(got), err)
				}
			}
		}
	}
}

// TestBase64Damaged puts each byte value into places of a few lines, and all kinds of
// line ends into each place. It must accept what encoding/base64 accepts.
func TestBase64Damaged(t *testing.T) {
	lines := referenceLines(randomOctets(57*5+55), "\r\n")
	for at := range lines {
		for _, c := range []string{"\r", "\n", "\r\n", "=", "A", "", string([]byte{byte(rand.Uint32())})} {
			compareDecoders(t, lines[:at]+c+lines[at:])
			compareDecoders(t, lines[:at]+c+lines[at+1:])
		}
		compareDecoders(t, lines[:at])
	}
	for at := 0; at < len(lines); at += 1 + rand.IntN(60) {
		for c := range 256 {
			compareDecoders(t, lines[:at]+string([]byte{byte(c)})+lines[at+1:])
		}
	}
}

// compareDecoders checks that a Reader and encoding/base64 agree. A text with a "-" is
// left out: that may be a delimiter.
func compareDecoders(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, "-") {
		return
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	want, ok := referenceDecode(text)
	for _, oneByOne := range []bool{false, true} {
		got, err := decodeText(text, oneByOne)
		if ok != (err == nil) || ok && !bytes.Equal(got, want) {
			t.Fatalf("%q, byte by byte %v: error %v, encoding/base64 accepts it: %v", text, oneByOne, err, ok)
		}
	}
}

func FuzzBase64(f *testing.F) {
	f.Add(referenceLines(randomOctets(300), "\r\n"))
	f.Add(referenceLines(randomOctets(300), "\n") + "\n")
	f.Add("A\n\n\nGVs\nbG8=\n")
	f.Add("aGVsbG9=\n")
	f.Add("aGVs\r\r\r\rbG8=\n")
	f.Fuzz(func(t *testing.T, text string) {
		compareDecoders(t, text)
		want := referenceLines([]byte(text), "\n")
		if got := string(appendLines(make([]byte, 0, len(want)), []byte(text), "\n")); got != want {
			t.Fatalf("%q is encoded as %q, want %q", text, got, want)
		}
	})
}
