package cipher

import (
	"bytes"
	"errors"
	"io"

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
	head := &recorder{src: r}
	outer, err := envelope.NewReader(head)
	if head.err != nil {
		return false, nil, head.err
	}
	if err == nil {
		outer.Free()
	}
	return !errors.Is(err, envelope.ErrNotEncrypted), io.MultiReader(bytes.NewReader(head.read), r), nil
}

// A recorder keeps what is read through it, and ends at SniffLimit.
type recorder struct {
	src  io.Reader
	read []byte
	err  error // of src, but for io.EOF
}

func (r *recorder) Read(p []byte) (int, error) {
	p = p[:min(len(p), SniffLimit-len(r.read))]
	if len(p) == 0 {
		return 0, io.EOF
	}
	n, err := r.src.Read(p)
	r.read = append(r.read, p[:n]...)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
