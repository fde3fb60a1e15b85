package smtpwire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// unstuff reads DATA as a receiver does that is strict about its end: up to the first CR
// LF . CR LF, or . CR LF at the beginning, with one dot removed from each line. A line
// begins only after CR LF.
func unstuff(raw []byte) (out []byte, used int, end bool) {
	begins := true
	for i := 0; i < len(raw); i++ {
		if begins && raw[i] == '.' {
			if bytes.HasPrefix(raw[i:], []byte(".\r\n")) {
				return out, i + 3, true
			}
			begins = false
			continue
		}
		begins = raw[i] == '\n' && i > 0 && raw[i-1] == '\r'
		out = append(out, raw[i])
	}
	return out, len(raw), false
}

func randomFrom(alphabet string, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return b
}

// inPieces runs raw through an Unstuffer in pieces, some of them in place.
func inPieces(raw []byte) (out []byte, used int, end bool) {
	var u Unstuffer
	for used < len(raw) && !end {
		src := raw[used:]
		src = src[:1+rand.IntN(len(src))]
		dst := make([]byte, 1+rand.IntN(9))
		if rand.IntN(2) == 0 {
			dst = make([]byte, 1+len(src))
			src = dst[1 : 1+copy(dst[1:], src)]
		}
		n, m, e := u.Next(dst, src)
		out, used, end = append(out, dst[:n]...), used+m, e
	}
	return out, used, end
}

func TestUnstuffer(t *testing.T) {
	for range 100_000 {
		raw := randomFrom("\r\n..a\r\n", rand.IntN(24))
		want, wantUsed, wantEnd := unstuff(raw)
		got, used, end := inPieces(raw)
		// If the input ends with ". CR", that is held back: the next byte decides.
		if !wantEnd && bytes.HasPrefix(want, got) && len(want)-len(got) <= 1 && !end {
			continue
		}
		if !bytes.Equal(got, want) || used != wantUsed || end != wantEnd {
			t.Fatalf("%q: got %q, %d bytes taken, end %v; want %q, %d, %v", raw, got, used, end, want, wantUsed, wantEnd)
		}
	}
}

// The end of DATA is CR LF . CR LF, whatever comes before it (RFC 5321 §4.1.1.4).
func TestEndOfData(t *testing.T) {
	for raw, out := range map[string]string{
		".\r\n":                "",
		"x\r\n.\r\n":           "x\r\n",
		"x\r\r\n.\r\n":         "x\r\r\n",
		"x\r\r\r\n.\r\n":       "x\r\r\r\n",
		"\r\r\n.\r\n":          "\r\r\n",
		"\r\n.\r\n":            "\r\n",
		".\r\r\n.\r\n":         "\r\r\n",
		"..\r\n.\r\n":          ".\r\n",
		".\rx\r\n.\r\n":        "\rx\r\n",
		".\r.\r\n.\r\n":        "\r.\r\n",
		"x\n.\n\r\n.\r\n":      "x\n.\n\r\n",
		"x\n.\r\n\r\n.\r\n":    "x\n.\r\n\r\n",
		"x\r.\r\n\r\n.\r\n":    "x\r.\r\n\r\n",
		"x\r\n.\n\r\n.\r\n":    "x\r\n\n\r\n",
		"x\r\n.\r.\r\n.\r\n":   "x\r\n\r.\r\n",
		"x\r\n.\r\r\n.\r\n":    "x\r\n\r\r\n",
		"x\r\n..\r\n\r\n.\r\n": "x\r\n.\r\n\r\n",
	} {
		for range 50 {
			got, used, end := inPieces([]byte(raw))
			if string(got) != out || used != len(raw) || !end {
				t.Errorf("%q: got %q, %d of %d bytes, end %v; want %q and its end", raw, got, used, len(raw), end, out)
			}
		}
	}
}

// stuff returns what a DataWriter has to make of a message.
func stuff(p []byte) []byte {
	var out []byte
	begins, cr := true, false
	for _, c := range p {
		if begins && c == '.' {
			out = append(out, '.')
		}
		if c == '\n' && !cr {
			out = append(out, '\r')
		}
		out = append(out, c)
		begins, cr = c == '\n', c == '\r'
	}
	switch {
	case begins:
	case cr:
		out = append(out, '\n')
	default:
		out = append(out, "\r\n"...)
	}
	return append(out, ".\r\n"...)
}

func TestDataWriter(t *testing.T) {
	for i := range 50_000 {
		alphabet, size := "\r\n..a\n", rand.IntN(24)
		if i%1000 == 0 {
			alphabet, size = []string{"\n.", ".", "\n", "\r\n.", "\r\n.aaaaaaaaaaaaaaaaaa"}[rand.IntN(5)], 100_000+rand.IntN(100_000)
		}
		p := randomFrom(alphabet, size)
		var out bytes.Buffer
		w := NewDataWriter(&out)
		for rest := p; len(rest) > 0; {
			n := 1 + rand.IntN(len(rest))
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.Free()
		got := out.Bytes()
		if want := stuff(p); !bytes.Equal(got, want) {
			t.Fatalf("%.100q: got %.100q, want %.100q", p, got, want)
		}
		if bare := bytes.ReplaceAll(p, []byte("\r\n"), nil); bytes.IndexByte(bare, '\r') >= 0 {
			continue // refused before it comes here
		}
		if _, used, end := unstuff(got); !end || used != len(got) {
			t.Fatalf("%.200q ends for a strict receiver after %d bytes of %d", p, used, len(got))
		}
	}
}

type failingWriter struct{}

var errFailing = errors.New("failing")

func (failingWriter) Write([]byte) (int, error) { return 0, errFailing }

func TestDataWriterError(t *testing.T) {
	w := NewDataWriter(failingWriter{})
	defer w.Free()
	if n, err := w.Write([]byte("short")); n != 5 || err != nil {
		t.Errorf("a short message was written at once: %d, %v", n, err)
	}
	if _, err := w.Write(make([]byte, 200_000)); !errors.Is(err, errFailing) {
		t.Errorf("Write: %v, want the error of the underlying writer", err)
	}
	if err := w.Close(); !errors.Is(err, errFailing) || !errors.Is(w.Err(), errFailing) {
		t.Errorf("Close: %v, Err: %v, want the error of the underlying writer", err, w.Err())
	}
}

func FuzzData(f *testing.F) {
	for _, s := range []string{"", ".", "\r\n.\r\n", "a\r\n..b\r\n", "x\r\r\n.\r\n", ".\r", "a\nb\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		var out bytes.Buffer
		w := NewDataWriter(&out)
		defer w.Free()
		if _, err := w.Write(message); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, used, end := inPieces(out.Bytes())
		if !end {
			t.Fatalf("%q: no end in %q", message, out.Bytes())
		}
		if bare := bytes.ReplaceAll(message, []byte("\r\n"), nil); bytes.ContainsAny(bare, "\r\n") {
			return // its line ends are fixed
		}
		want := message
		if len(want) > 0 && !bytes.HasSuffix(want, []byte("\r\n")) {
			want = append(bytes.Clone(want), "\r\n"...)
		}
		if !bytes.Equal(got, want) || used != out.Len() {
			t.Errorf("%q came as %q", message, got)
		}
	})
}
