package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// A tap passes connections on and keeps all that goes through, in both
// directions. It is the wire between two sites, or the way to a key manager
// that can be cut.
type tap struct {
	port   int
	target string

	mu      sync.Mutex
	cut     bool
	conns   map[net.Conn]bool
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

// newTap listens for connections that go to a port.
func newTap(t *testing.T, port int) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{port: l.Addr().(*net.TCPAddr).Port, target: fmt.Sprintf("127.0.0.1:%d", port), conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		w.set(true)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.pass(c)
		}
	}()
	return w
}

// set cuts the wire, or mends it.
func (w *tap) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			_ = c.Close()
		}
	}
}

// enter notes a connection; not if the wire is cut.
func (w *tap) enter(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cut {
		w.conns[c] = true
	}
	return !w.cut
}

func (w *tap) leave(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *tap) newStream() *stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &stream{tap: w}
	w.streams = append(w.streams, s)
	return s
}

func (w *tap) pass(client net.Conn) {
	defer w.leave(client)
	if !w.enter(client) {
		return
	}
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer w.leave(server)
	if !w.enter(server) {
		return
	}
	forth, back := w.newStream(), w.newStream()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.MultiWriter(forth, server), client)
		_ = server.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(io.MultiWriter(back, client), server)
	_ = client.Close()
	<-done
}

// saw reports whether a text went through, as it is or in base64.
func (w *tap) saw(text string) bool {
	needles := [][]byte{[]byte(text)}
	for shift := range 3 {
		// What stands before the text decides how it is cut into groups of
		// three octets; the first and the last group depend on its neighbours.
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

// octets returns how many octets went through.
func (w *tap) octets() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		n += s.data.Len()
	}
	return n
}

// messages returns the messages that went through, as they were before dots
// were doubled.
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
