package e2e

import (
	"bytes"
	"encoding/base64"
	"io"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A tap passes connections on to a port and keeps the bytes that go through, in
// both directions. It is the wire between two sites.
type tap struct {
	*relaytest.Gate

	mu      sync.Mutex
	streams []*stream
}

// A stream is one direction of a connection.
type stream struct {
	tap  *tap
	data bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.tap.mu.Lock()
	defer s.tap.mu.Unlock()
	return s.data.Write(p)
}

func newTap(t *testing.T, port int) *tap {
	t.Helper()
	w := &tap{}
	w.Gate = relaytest.NewGate(t, relaytest.Loopback(port), relaytest.GateHooks{Record: func() io.Writer {
		w.mu.Lock()
		defer w.mu.Unlock()
		s := &stream{tap: w}
		w.streams = append(w.streams, s)
		return s
	}})
	return w
}

// saw reports whether a text went through, in clear or in base64.
func (w *tap) saw(text string) bool {
	needles := [][]byte{[]byte(text)}
	for shift := range 3 {
		// The bytes before the text decide how it is cut into groups of three
		// bytes; the first and the last group depend on its neighbours.
		coded := base64.StdEncoding.EncodeToString([]byte("xxx"[:shift] + text))
		needles = append(needles, []byte(coded[4:len(coded)-4]))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		// Base64 is wrapped.
		flat := bytes.ReplaceAll(s.data.Bytes(), []byte("\r\n"), nil)
		for _, n := range needles {
			if bytes.Contains(s.data.Bytes(), n) || bytes.Contains(flat, n) {
				return true
			}
		}
	}
	return false
}

// size returns how many bytes went through.
func (w *tap) size() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		n += s.data.Len()
	}
	return n
}

// messages returns the messages that went through, without the doubled dots.
func (w *tap) messages() (all [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		rest := s.data.Bytes()
		for {
			_, after, ok := bytes.Cut(rest, []byte("\r\nDATA\r\n"))
			if !ok {
				break
			}
			message, next, ok := bytes.Cut(after, []byte("\r\n.\r\n"))
			if !ok {
				break
			}
			message = bytes.ReplaceAll(append([]byte("\r\n"), append(message, "\r\n"...)...), []byte("\r\n.."), []byte("\r\n."))
			all = append(all, message[2:])
			rest = append([]byte("\r\n"), next...)
		}
	}
	return all
}
