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

// Sniff tells whether a message is one of qkdmail, without taking anything away:
// info is what it says of itself up to its payload, nil if it is none, and replay is
// the whole message again. beginning is what the caller has read of it
// already, nil for nothing; it is not copied, and must stay as it is until replay has
// been read or has been given to Decrypt. rest has what follows. Sniff reads no more
// than it takes to tell, at most up to SniffLimit or 64 KiB behind beginning, and
// holds that in memory. The error is that of rest; replay has it where it comes
// behind.
//
// A message that names a key in its header and has no control part in sight counts
// as one of qkdmail, with an empty Info: [Decrypt] will say that it is damaged. So
// does one in a version that this release can't read.
func Sniff(beginning []byte, rest io.Reader) (info *Info, replay io.Reader, err error) {
	head := &recorder{src: rest, buf: buffer.Get(), limit: max(SniffLimit-len(beginning), 64<<10)}
	head.read = head.buf[:0]
	outer, err := envelope.NewReader(beginning, head)
	if head.err != nil {
		head.free()
		return nil, nil, head.err
	}
	if err == nil && !head.full {
		said := outerInfo(outer)
		return &said, &sniffed{beginning: beginning, head: head, outer: outer}, nil
	}
	if err == nil {
		outer.Free() // it may have taken the limit for the end
	}
	if !errors.Is(err, envelope.ErrNotEncrypted) {
		info = new(Info)
	}
	return info, head.replay(beginning), nil
}

// A sniffed message is read up to its payload: Decrypt goes on from there, and
// does not do it again.
type sniffed struct {
	beginning []byte
	head      *recorder
	outer     *envelope.Reader // nil once the message is read in another way
	whole     io.Reader        // nil until then
}

// Read reads the message from its beginning.
func (s *sniffed) Read(p []byte) (int, error) {
	if s.whole == nil {
		if s.outer == nil {
			return 0, io.EOF // Decrypt has it
		}
		s.outer.Free()
		s.outer, s.whole = nil, s.head.replay(s.beginning)
	}
	return s.whole.Read(p)
}

// openEnvelope reads a message up to its payload, if that is not done.
func openEnvelope(src io.Reader) (*envelope.Reader, error) {
	s, ok := src.(*sniffed)
	if !ok || s.outer == nil {
		return envelope.NewReader(nil, src)
	}
	outer := s.outer
	s.head.free()
	s.outer, s.head.done = nil, true
	return outer, nil
}

// A recorder keeps what is read through it, and ends at its limit; once it is done it
// does neither.
type recorder struct {
	src   io.Reader
	limit int
	buf   *buffer.Buffer
	read  []byte // in buf as long as it fits
	err   error  // of src, but for io.EOF
	full  bool
	done  bool
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.done {
		return r.src.Read(p)
	}
	p = p[:min(len(p), r.limit-len(r.read))]
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

// replay reads all again, with beginning before it.
func (r *recorder) replay(beginning []byte) io.Reader {
	read := bytes.Clone(r.read)
	r.free()
	return io.MultiReader(bytes.NewReader(beginning), bytes.NewReader(read), r.src)
}

func (r *recorder) free() {
	r.buf.Free(len(r.read))
	r.buf, r.read = nil, nil
}
