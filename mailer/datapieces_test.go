package mailer

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// undoLikeGoSMTP is the loop of go-smtp's dataReader, with its states; bare is
// our own addition: a CR behind a leading dot that no LF follows.
func undoLikeGoSMTP(raw []byte) (out []byte, used int, bare, end bool) {
	state := stateBeginLine
	for _, c := range raw {
		used++
		switch state {
		case stateBeginLine:
			if c == '.' {
				state = stateDot
				continue
			}
			if c == '\r' {
				state = stateCR
				break
			}
			state = stateData
		case stateDot:
			if c == '\r' {
				state = stateDotCR
				continue
			}
			state = stateData
		case stateDotCR:
			if c == '\n' {
				return out, used, bare, true
			}
			bare = true
			state = stateData
		case stateCR:
			if c == '\n' {
				state = stateBeginLine
				break
			}
			state = stateData
		case stateData:
			if c == '\r' {
				state = stateCR
			}
		}
		out = append(out, c)
	}
	return out, used, bare, false
}

func randomFrom(alphabet string, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return b
}

func TestUndoPieces(t *testing.T) {
	for range 1_000_000 {
		raw := randomFrom("\r\n..a\r\n", rand.IntN(24))
		want, used, bare, end := undoLikeGoSMTP(raw)
		var d dataState
		var got []byte
		gotUsed, gotEnd := 0, false
		rest := raw
		for len(rest) > 0 && !gotEnd {
			p := make([]byte, 1+rand.IntN(9))
			in := rest[:1+rand.IntN(len(rest))]
			if rand.IntN(2) == 0 { // in place
				p = make([]byte, len(in))
				copy(p, in)
				in = p
			}
			n, u, e := d.undo(p, in)
			got = append(got, p[:n]...)
			gotUsed += u
			gotEnd = e
			rest = rest[u:]
		}
		if !bytes.Equal(got, want) || gotEnd != end || gotUsed != used || d.bare != bare {
			t.Fatalf("%q: %q %d %v %v, want %q %d %v %v", raw, got, gotUsed, gotEnd, d.bare, want, used, end, bare)
		}
	}
}

func refStuff(p []byte) []byte {
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
	return out
}

func TestStuffPieces(t *testing.T) {
	for i := range 300_000 {
		alphabet, size := "\r\n..a\n", rand.IntN(24)
		if i%1000 == 0 {
			alphabet, size = []string{"\n.", ".", "\n", "\r\n.", "\r\n.aaaaaaaaaaaaaaaaaa"}[rand.IntN(5)], 100_000+rand.IntN(100_000)
		}
		p := randomFrom(alphabet, size)
		var out bytes.Buffer
		w := newDataWriter(&out)
		for rest := p; len(rest) > 0; {
			n := 1 + rand.IntN(len(rest))
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		tail := w.out
		got := append(bytes.Clone(out.Bytes()), tail...)
		if want := refStuff(p); !bytes.Equal(got, want) {
			t.Fatalf("%q: %q want %q", p[:min(len(p), 100)], got[:min(len(got), 100)], want[:min(len(want), 100)])
		}
		if i := bytes.ReplaceAll(p, []byte("\r\n"), nil); bytes.IndexByte(i, '\r') >= 0 {
			w.free()
			continue // refused before
		}
		final := append(append(bytes.Clone(out.Bytes()), w.rest()...), "\r\n.\r\n"...)
		w.free()
		// As a strict receiver sees it: one end, at the end.
		back, used, _, end := undoLikeGoSMTP(final)
		if !end || used != len(final) {
			t.Fatalf("%q ends at %d of %d", p[:min(len(p), 200)], used, len(final))
		}
		_ = back
	}
}

// A client that sends in random pieces; everything it sends comes out once.
func TestFrontPieces(t *testing.T) {
	for range 3000 {
		var raw, want []byte
		n := 1 + rand.IntN(3)
		for range n {
			m := randomFrom("ab.\r\n", rand.IntN(12))
			if rand.IntN(3) == 0 {
				m = randomFrom("ab.", rand.IntN(20_000))
			}
			m = bytes.ReplaceAll(bytes.ReplaceAll(m, []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
			m = append(m, "\r\n"...)
			want = append(append(want, m...), 0)
			raw = append(append(raw, refStuff(m)...), ".\r\n"...)
			raw = append(raw, "NOOP\r\n"...)
		}
		client, server := net.Pipe()
		f := newFront(server, &frontOptions{DataIdle: time.Second})
		go func() {
			for len(raw) > 0 {
				k := min(len(raw), 1+rand.IntN(1+rand.IntN(30_000)))
				_, _ = client.Write(raw[:k])
				raw = raw[k:]
			}
		}()
		var got []byte
		for range n {
			f.inData, f.data = true, dataState{}
			buf := make([]byte, 1+rand.IntN(70_000))
			for {
				k, err := dataReader{front: f}.Read(buf)
				got = append(got, buf[:k]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			got = append(got, 0)
			line, err := f.in.line()
			if err != nil || string(line) != "NOOP\r\n" {
				t.Fatalf("%q %v", line, err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %q want %q", got[:min(200, len(got))], want[:min(200, len(want))])
		}
		client.Close()
	}
}

var _ = strings.NewReader
