package mailer

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// A producer writes a message for the next hop, having read the client's.
type producer func(dst io.Writer) error

// A deliverer is a session that can be written to, without a pipe and a goroutine
// between: that of a next hop. The answers are for the recipients it has accepted,
// in their order; there are none where one is for all.
type deliverer interface {
	Deliver(produce func(dst io.Writer) error) (answers []error, err error)
}

// deliver runs produce and hands what it writes to the next session. If produce
// fails the next session sees a reader that fails, and must not deliver; the error
// is produce's then.
func deliver(next smtp.Session, lmtp bool, rcpts []string, produce producer) (map[string]error, error) {
	if d, ok := next.(deliverer); ok {
		list, err := d.Deliver(func(dst io.Writer) error { return recovered(func() error { return produce(dst) }) })
		return byRecipient(rcpts, list), err
	}
	pr, pw := io.Pipe()
	produced := make(chan error, 1)
	go func() {
		err := recovered(func() error { return produce(pw) })
		_ = pw.CloseWithError(err) // nil is io.EOF
		produced <- err
	}()
	var answers map[string]error
	err := recovered(func() (err error) {
		answers, err = handOver(next, lmtp, rcpts, pr)
		return err
	})
	// A next session that did not read to the end must not keep produce
	// waiting.
	_ = pr.CloseWithError(errNotRead)
	if perr := <-produced; perr != nil && !errors.Is(perr, errNotRead) {
		return nil, perr
	}
	return answers, err
}

// byRecipient returns answers by recipient. One who was named twice has got the
// message if one of his answers says so.
func byRecipient(rcpts []string, list []error) map[string]error {
	if list == nil {
		return nil
	}
	answers := make(map[string]error, len(list))
	for i, err := range list[:min(len(list), len(rcpts))] {
		if before, twice := answers[rcpts[i]]; !twice || before != nil {
			answers[rcpts[i]] = err
		}
	}
	return answers
}

// delivered counts the recipients who have got a message: err is for those who have
// no answer of their own.
func delivered(rcpts []string, answers map[string]error, err error) int {
	n := 0
	for _, rcpt := range rcpts {
		answer, single := answers[rcpt]
		if single && answer == nil || !single && err == nil {
			n++
		}
	}
	return n
}

// recovered makes an error of a panic: one message must not end the relay, and
// with it all others. go-smtp does so on goroutines of its own only.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// errNotRead is what produce gets where the next hop has answered early.
var errNotRead = io.ErrClosedPipe

// handOver is Data, or LMTPData where the client wants an answer for each
// recipient and the next session has them.
func handOver(next smtp.Session, lmtp bool, rcpts []string, r io.Reader) (map[string]error, error) {
	l, ok := next.(smtp.LMTPSession)
	if !lmtp || !ok {
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

// A collector takes the answers for recipients.
type collector struct {
	mu      sync.Mutex
	answers map[string]error
}

func (c *collector) SetStatus(rcpt string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[rcpt] = err
}

// A prefixWriter writes something before the first octet, and nothing if there
// never is one.
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

// A tee hands what is read from src to several readers. One that is closed is
// left out; the others go on.
func tee(src io.Reader, n int) (readers []*io.PipeReader, run func()) {
	writers := make([]*io.PipeWriter, n)
	readers = make([]*io.PipeReader, n)
	for i := range n {
		readers[i], writers[i] = io.Pipe()
	}
	return readers, func() {
		b := block.Get()
		defer b.Free(len(b))
		buf := b[:]
		for {
			m, err := src.Read(buf)
			open := 0
			for i, w := range writers {
				if w == nil {
					continue
				}
				if m > 0 {
					if _, werr := w.Write(buf[:m]); werr != nil {
						writers[i] = nil
						continue
					}
				}
				open++
				if err != nil {
					_ = w.CloseWithError(err)
				}
			}
			if err != nil || open == 0 {
				return
			}
		}
	}
}
