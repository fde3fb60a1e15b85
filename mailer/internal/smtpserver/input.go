package smtpserver

import (
	"bytes"
	"errors"
	"io"

	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// An input buffers what a client sends. DATA goes past it into its reader's memory, so a
// waiting connection takes little.
type input struct {
	src  io.Reader
	buf  []byte
	r, w int  // what is buffered: buf[r:w]
	long bool // a line that is too long has begun
}

// inputSize is room for a command and what may come with it, in bytes. The buffer grows
// for a client that sends more than this after the end of DATA.
const inputSize = 4 << 10

var errLongCommand = errors.New("command too long")

func newInput(src io.Reader) input { return input{src: src, buf: make([]byte, inputSize)} }

// buffered returns what has come and not been taken. It is valid until more comes.
func (in *input) buffered() []byte { return in.buf[in.r:in.w] }

func (in *input) discard(n int) { in.r += n }

// fill waits for more: at least a byte, or an error.
func (in *input) fill() error {
	rest := in.buffered()
	if len(rest) == 0 && len(in.buf) > inputSize {
		in.buf = make([]byte, inputSize)
	}
	in.r, in.w = 0, copy(in.buf, rest)
	n, err := io.ReadAtLeast(in.src, in.buf[in.w:], 1)
	in.w += n
	return err
}

// giveBack puts bytes before what comes next. The buffer must be empty.
func (in *input) giveBack(p []byte) {
	if len(p) > len(in.buf) {
		in.buf = make([]byte, len(p)+inputSize)
	}
	in.r, in.w = 0, copy(in.buf, p)
}

// nextLine returns the next line if it is buffered, and leaves it there.
func (in *input) nextLine() []byte {
	return in.buffered()[:bytes.IndexByte(in.buffered(), '\n')+1]
}

// hasLine reports whether a line is buffered.
func (in *input) hasLine() bool { return len(in.nextLine()) > 0 }

// line takes the next line. One that is too long is read to its end, and not kept.
func (in *input) line() ([]byte, error) {
	for {
		if line := in.nextLine(); len(line) > 0 {
			in.discard(len(line))
			if in.long || len(line) > smtpwire.MaxCommand {
				in.long = false
				return nil, errLongCommand
			}
			return line, nil
		}
		if len(in.buffered()) >= smtpwire.MaxCommand {
			in.long = true
			in.discard(len(in.buffered()))
		}
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}
