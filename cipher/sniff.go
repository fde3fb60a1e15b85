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
// away: replay is the whole message again. At most SniffLimit octets are held
// in memory. The error is that of r.
//
// A message that names a key in its header and has no control part in sight
// counts as one of qkdmail: [Decrypt] will say that it is damaged. So does one
// in a version that this release can't read.
func Sniff(r io.Reader) (ours bool, replay io.Reader, err error) {
	// Not io.ReadFull, which ends with io.ErrUnexpectedEOF: that is what some
	// readers say of a connection that was cut, and is no end of a message.
	head, err := io.ReadAll(io.LimitReader(r, SniffLimit))
	if err != nil {
		return false, nil, err
	}
	replay = io.MultiReader(bytes.NewReader(head), r)
	_, err = envelope.NewReader(bytes.NewReader(head))
	return !errors.Is(err, envelope.ErrNotEncrypted), replay, nil
}
