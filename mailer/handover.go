package mailer

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// A producer reads the client's message and writes the next hop's.
type producer func(dst io.Writer) error

// An answer is the next hop's answer to a message.
type answer struct {
	single map[string]error  // for single recipients
	err    error             // for all others
	said   map[string]string // what the next hop said when it took the message, by recipient
	wait   time.Duration     // how long it took
}

// handOver runs produce and hands what it writes to a session of the next hop. If
// produce fails, the next session must not deliver, and the error is produce's.
func (s *session) handOver(next smtp.Session, rcpts []string, produce producer) (a answer) {
	var sent time.Time
	write := func(dst io.Writer) error {
		err := recovered(func() error { return produce(dst) })
		sent = time.Now()
		return err
	}
	if s.step.HandOver == nil {
		a.single, a.err = s.pipe(next, rcpts, write)
	} else {
		var list []error
		var said []string
		err := recovered(func() (err error) {
			list, said, err = s.step.HandOver(next, write)
			return err
		})
		if list != nil && len(list) != len(rcpts) { // no answer can be matched to a recipient
			list, said, err = nil, nil, fmt.Errorf("the next hop answers for %d recipients, not for %d", len(list), len(rcpts))
		}
		a.single, a.said, a.err = byRecipient(rcpts, list), saidTo(rcpts, said), err
	}
	if !sent.IsZero() {
		a.wait = time.Since(sent)
	}
	return a
}

// pipe hands what write writes to a session that reads. If write fails, so does the
// reader that the session has.
func (s *session) pipe(next smtp.Session, rcpts []string, write producer) (map[string]error, error) {
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(pw)
		_ = pw.CloseWithError(err) // nil is io.EOF
		written <- err
	}()
	var answers map[string]error
	err := recovered(func() (err error) {
		answers, err = s.dataFrom(next, rcpts, pr)
		return err
	})
	// A session that did not read to the end must not keep write waiting.
	_ = pr.CloseWithError(errNotRead)
	if werr := <-written; werr != nil && !errors.Is(werr, errNotRead) {
		return nil, werr
	}
	return answers, err
}

// byRecipient maps answers to recipients. A recipient named twice has the message if one
// of its answers says so.
func byRecipient(rcpts []string, list []error) map[string]error {
	if list == nil {
		return nil
	}
	answers := make(map[string]error, len(list))
	for i, err := range list {
		if before, twice := answers[rcpts[i]]; !twice || before != nil {
			answers[rcpts[i]] = err
		}
	}
	return answers
}

// delivered returns the recipients who have the message.
func (a answer) delivered(rcpts []string) (got []string) {
	for _, rcpt := range rcpts {
		if a.of(rcpt) == nil {
			got = append(got, rcpt)
		}
	}
	return got
}

// of returns the answer for a recipient.
func (a answer) of(rcpt string) error {
	if single, ok := a.single[rcpt]; ok {
		return single
	}
	return a.err
}

// recovered turns a panic into an error: one message must not end the relay and with it
// all other messages. go-smtp recovers only on its own goroutines.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// errNotRead is what a producer gets if the next hop has answered early.
var errNotRead = io.ErrClosedPipe

// dataFrom calls Data, or LMTPData if the client wants an answer for each recipient and
// the next session gives them.
func (s *session) dataFrom(next smtp.Session, rcpts []string, r io.Reader) (map[string]error, error) {
	l, ok := next.(smtp.LMTPSession)
	if !s.step.LMTP || !ok {
		return nil, next.Data(r)
	}
	c := &collector{answers: map[string]error{}}
	err := l.LMTPData(r, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rcpt := range rcpts {
		if _, ok := c.answers[rcpt]; !ok {
			c.answers[rcpt] = err
		}
	}
	return c.answers, err
}

// A collector collects the answers for recipients.
type collector struct {
	mu      sync.Mutex
	answers map[string]error
}

func (c *collector) SetStatus(rcpt string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[rcpt] = err
}

// A prefixWriter writes a prefix before the first byte, if there is one.
type prefixWriter struct {
	dst    io.Writer
	prefix string
}

func (w *prefixWriter) Write(p []byte) (int, error) {
	if w.prefix != "" && len(p) > 0 {
		prefix := w.prefix
		w.prefix = ""
		if _, err := io.WriteString(w.dst, prefix); err != nil {
			return 0, err
		}
	}
	return w.dst.Write(p)
}
