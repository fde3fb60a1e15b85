package mailer

import (
	"bytes"
	"io"

	"github.com/emersion/go-smtp"
)

// An intake buffers what a client sends. DATA passes it by: it is read into the
// memory of who wants it, so that a connection that waits takes little.
type intake struct {
	src  io.Reader
	buf  []byte
	r, w int // what is buffered: buf[r:w]
}

// intakeSize is room for a command and what may come with it. Whoever sends
// more behind the end of DATA than this gets a larger one.
const intakeSize = 4 << 10

func newIntake(src io.Reader) intake { return intake{src: src, buf: make([]byte, intakeSize)} }

// buffered is what has come and was not taken. It is valid until more comes.
func (in *intake) buffered() []byte { return in.buf[in.r:in.w] }

func (in *intake) discard(n int) { in.r += n }

// fill waits for more, of which there is at least an octet without an error.
func (in *intake) fill() error {
	in.makeRoom()
	n, err := io.ReadAtLeast(in.src, in.buf[in.w:], 1)
	in.w += n
	return err
}

// makeRoom moves what is buffered to the front.
func (in *intake) makeRoom() {
	rest := in.buffered()
	if len(rest) == 0 && len(in.buf) > intakeSize {
		in.buf = make([]byte, intakeSize)
	}
	in.r, in.w = 0, copy(in.buf, rest)
}

// giveBack puts octets in front of what comes next; there is nothing buffered.
func (in *intake) giveBack(p []byte) {
	if len(p) > len(in.buf) {
		in.buf = make([]byte, len(p)+intakeSize)
	}
	in.r, in.w = 0, copy(in.buf, p)
}

// hasLine reports whether a line was buffered.
func (in *intake) hasLine() bool { return bytes.IndexByte(in.buffered(), '\n') >= 0 }

// line takes the next line, of at most maxCommand octets.
func (in *intake) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(in.buffered(), '\n'); i >= 0 && i < maxCommand {
			line := in.buffered()[:i+1]
			in.discard(i + 1)
			return line, nil
		}
		if len(in.buffered()) >= maxCommand {
			return nil, smtp.ErrTooLongLine
		}
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}
