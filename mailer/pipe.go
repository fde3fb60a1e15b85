package mailer

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/emersion/go-smtp"
)

// A producer writes a message for the next hop, having read the client's.
type producer func(dst io.Writer) error

// deliver runs produce and hands what it writes to the next session. If
// produce fails the next session sees a reader that fails, and drops its
// connection before the final dot; the error is produce's then.
//
// A session of a NextHop is written to without a pipe and a goroutine between.
func deliver(next smtp.Session, lmtp bool, rcpts []string, produce producer) (map[string]error, error) {
	if hop, ok := next.(*hopSession); ok {
		// A panic must not leave the connection open in the middle of DATA.
		return hop.data(func(dst io.Writer) error { return recovered(func() error { return produce(dst) }) })
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

// sendData has a session of a NextHop send DATA while the message is still to
// be read.
func sendData(next smtp.Session) {
	if hop, ok := next.(*hopSession); ok {
		hop.sendData()
	}
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

// copyBlocks copies in large blocks: each is a write to the next hop.
func copyBlocks(dst io.Writer, src io.Reader) error {
	b, used := getBlock(), 0
	defer func() { b.free(used) }()
	for {
		n, err := src.Read(b[:])
		used = max(used, n)
		if n > 0 {
			if _, werr := dst.Write(b[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
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
		b := getBlock()
		defer b.free(len(b))
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
