package cipher

import (
	"bytes"
	"errors"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
)

// sniffLimit is how many bytes of a message Sniff reads at most. The control part
// comes much earlier: mailing lists and disclaimers put little before it.
const sniffLimit = 256 << 10

// Sniff reports whether a message is encrypted by qkdmail, without consuming it: replay
// is the whole message again. info is what the message says about itself, or nil for
// other mail.
//
// beginning is what the caller has read of the message, and rest is what follows. Sniff
// does not copy beginning: it must not change until replay is read or given to Decrypt.
// Sniff reads and buffers no more of rest than it needs: at most 256 KiB less the size
// of beginning, or 64 KiB if that is more. The error is one from rest; a later one is
// returned by replay.
//
// A message with Qkdmail-Key-ID and without a control part, or in a version
// that this release can't read, counts as encrypted, with an empty Info:
// [Decrypt] says what is wrong with it.
func Sniff(beginning []byte, rest io.Reader) (info *Info, replay io.Reader, err error) {
	head := &recorder{src: rest, buf: buffer.Get(), limit: max(sniffLimit-len(beginning), 64<<10)}
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
		outer.Free() // it may have taken the limit for the end of the message
	}
	if !errors.Is(err, envelope.ErrNotEncrypted) {
		info = new(Info)
	}
	return info, head.replay(beginning), nil
}

// A sniffed message has been read up to its payload. Decrypt goes on from there.
type sniffed struct {
	beginning []byte
	head      *recorder
	outer     *envelope.Reader // nil once Decrypt has it, or Read was called
	whole     io.Reader        // nil until Read is called
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

// openEnvelope reads a message up to its payload, if Sniff has not done so.
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

// A recorder keeps what is read through it, up to a limit at which it reports the end.
// Once done is set, it only reads.
type recorder struct {
	src   io.Reader
	limit int
	buf   *buffer.Buffer
	read  []byte // in buf as long as it fits
	err   error  // of src, except io.EOF
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

// replay reads everything again, after beginning.
func (r *recorder) replay(beginning []byte) io.Reader {
	read := bytes.Clone(r.read)
	r.free()
	return io.MultiReader(bytes.NewReader(beginning), bytes.NewReader(read), r.src)
}

func (r *recorder) free() {
	r.buf.Free(len(r.read))
	r.buf, r.read = nil, nil
}
