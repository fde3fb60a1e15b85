package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes a sender may be ahead of the reader.
const window = 256 << 10

// forever is longer than any scenario.
const forever = 100 * 365 * 24 * time.Hour

// A stream is one direction of a connection. Its waiters wait only on channels and
// timers, so that synctest sees when nothing else can happen.
type stream struct {
	latency time.Duration

	mu       sync.Mutex
	chunks   []chunk // on their way
	size     int     // of them, in bytes
	written  int64
	consumed int64
	last     time.Time // when the last of chunks arrives
	eof      bool      // the writer has closed, after chunks
	err      error     // for both ends: the connection is broken, or the reader has closed
	silent   bool      // nothing arrives any more, and nobody is told

	cutAt int64       // bytes after which cut is called; negative: never
	cut   func()      // called without mu
	wake  [2]signal   // the reader, and the writer
	until [2]deadline // likewise
}

const (
	reader = iota
	writer
)

type chunk struct {
	data []byte
	at   time.Time
}

// A signal wakes one waiter.
type signal chan struct{}

func (s signal) give() {
	select {
	case s <- struct{}{}:
	default:
	}
}

type deadline time.Time

func newStream(latency time.Duration) *stream {
	return &stream{latency: latency, cutAt: -1, wake: [2]signal{make(signal, 1), make(signal, 1)}}
}

// wait waits for a signal, at most until a moment or the waiter's deadline; s.mu must be
// held.
func (s *stream) wait(who int, at time.Time) error {
	end, now := time.Time(s.until[who]), time.Now()
	if !end.IsZero() {
		if !end.After(now) {
			return os.ErrDeadlineExceeded
		}
		if at.IsZero() || end.Before(at) {
			at = end
		}
	}
	if at.IsZero() {
		at = now.Add(forever)
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-s.wake[who]:
	case <-timer.C:
	}
	return nil
}

func (s *stream) setDeadline(who int, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until[who] = deadline(t)
	s.wake[who].give()
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var next time.Time
		switch end := time.Time(s.until[reader]); {
		case s.err != nil:
			return 0, s.err
		case !end.IsZero() && !end.After(time.Now()):
			return 0, os.ErrDeadlineExceeded
		case s.silent:
		case len(s.chunks) > 0:
			if next = s.chunks[0].at; !next.After(time.Now()) {
				return s.take(p), nil
			}
		case s.eof:
			if next = s.last; !next.After(time.Now()) {
				return 0, io.EOF
			}
		}
		if err := s.wait(reader, next); err != nil {
			return 0, err
		}
	}
}

// take takes what has arrived.
func (s *stream) take(p []byte) (n int) {
	for n < len(p) && len(s.chunks) > 0 && !s.chunks[0].at.After(time.Now()) {
		c := &s.chunks[0]
		copied := copy(p[n:], c.data)
		n += copied
		if c.data = c.data[copied:]; len(c.data) == 0 {
			s.chunks = s.chunks[1:]
		}
	}
	s.size -= n
	s.consumed += int64(n)
	s.wake[writer].give()
	return n
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) {
		end := time.Time(s.until[writer])
		switch {
		case s.err != nil:
			return n, s.err
		case s.eof:
			return n, net.ErrClosed
		case !end.IsZero() && !end.After(time.Now()):
			return n, os.ErrDeadlineExceeded
		case s.size < window:
			n += s.put(p[n:min(len(p), n+window-s.size)])
			continue
		}
		if err := s.wait(writer, time.Time{}); err != nil {
			return n, err
		}
	}
	return n, nil
}

// put sends as much as fits before the connection is cut, and then cuts it.
func (s *stream) put(p []byte) int {
	if s.cutAt >= 0 && s.written+int64(len(p)) > s.cutAt {
		p = p[:s.cutAt-s.written]
		defer func() {
			s.cutAt = -1
			s.mu.Unlock()
			s.cut()
			s.mu.Lock()
		}()
	}
	at := time.Now().Add(s.latency)
	if at.Before(s.last) {
		at = s.last
	}
	s.last = at
	if len(p) > 0 {
		s.chunks = append(s.chunks, chunk{append([]byte(nil), p...), at})
	}
	s.size += len(p)
	s.written += int64(len(p))
	s.wake[reader].give()
	return len(p)
}

// end is the writer's close.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.eof {
		s.eof = true
		s.last = time.Now().Add(max(s.latency, time.Until(s.last)))
	}
	s.wakeBoth()
}

// fail ends the stream at once, for both ends.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.chunks, s.size = nil, 0
	s.wakeBoth()
}

// hush lets nothing arrive any more.
func (s *stream) hush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

func (s *stream) wakeBoth() {
	s.wake[reader].give()
	s.wake[writer].give()
}

// position returns how much was written, and how much of it was read.
func (s *stream) position() (written, consumed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written, s.consumed
}

// errReset is what both ends of a cut connection see.
var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
