package cipher

import (
	"bytes"
	"errors"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
)

// SniffLimit is how much of a message Sniff looks at, in octets. The control
// part of a message of qkdmail comes much earlier; mailing lists and
// disclaimers put little before it.
const SniffLimit = 256 << 10

// Sniff tells whether a message is one of qkdmail, without taking anything
// away: replay is the whole message again. It reads no more than it takes to
// tell, SniffLimit octets at most, and holds them in memory. The error is that
// of r; replay has it where it comes behind.
//
// A message that names a key in its header and has no control part in sight
// counts as one of qkdmail: [Decrypt] will say that it is damaged. So does one
// in a version that this release can't read.
func Sniff(r io.Reader) (ours bool, replay io.Reader, err error) {
	head := &recorder{src: r, buf: buffer.Get()}
	head.read = head.buf[:0]
	outer, err := envelope.NewReader(head)
	if head.err != nil {
		head.free()
		return false, nil, head.err
	}
	if err == nil && !head.full {
		return true, &sniffed{head: head, outer: outer}, nil
	}
	if err == nil {
		outer.Free() // it may have taken the limit for the end
	}
	return !errors.Is(err, envelope.ErrNotEncrypted), head.replay(), nil
}

// A sniffed message is read up to its payload: Decrypt goes on from there, and
// does not do it again.
type sniffed struct {
	head  *recorder
	outer *envelope.Reader // nil once the message is read in another way
	whole io.Reader        // nil until then
}

// Read reads the message from its beginning.
func (s *sniffed) Read(p []byte) (int, error) {
	if s.whole == nil {
		if s.outer == nil {
			return 0, io.EOF // Decrypt has it
		}
		s.outer.Free()
		s.outer, s.whole = nil, s.head.replay()
	}
	return s.whole.Read(p)
}

// openEnvelope reads a message up to its payload, if that is not done.
func openEnvelope(src io.Reader) (*envelope.Reader, error) {
	s, ok := src.(*sniffed)
	if !ok || s.outer == nil {
		return envelope.NewReader(src)
	}
	outer := s.outer
	s.head.free()
	s.outer, s.head.done = nil, true
	return outer, nil
}

// A recorder keeps what is read through it, and ends at SniffLimit; once it is
// done it does neither.
type recorder struct {
	src  io.Reader
	buf  *buffer.Buffer
	read []byte // in buf as long as it fits
	err  error  // of src, but for io.EOF
	full bool
	done bool
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.done {
		return r.src.Read(p)
	}
	p = p[:min(len(p), SniffLimit-len(r.read))]
	if r.full = len(p) == 0; r.full {
		return 0, io.EOF
	}
	n, err := r.src.Read(p)
	r.read = append(r.read, p[:n]...)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// replay reads all again.
func (r *recorder) replay() io.Reader {
	read := bytes.Clone(r.read)
	r.free()
	return io.MultiReader(bytes.NewReader(read), r.src)
}

func (r *recorder) free() {
	r.buf.Free(len(r.read))
	r.buf, r.read = nil, nil
}
