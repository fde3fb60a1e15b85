package cipher

import (
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

// What can be wrong with a message. Errors of a key source are passed on as
// they come, wrapped.
var (
	// ErrNotEncrypted: ordinary mail, not a message of qkdmail.
	ErrNotEncrypted = envelope.ErrNotEncrypted
	// ErrDamaged: a message of qkdmail whose structure is broken: a part gone
	// or doubled, base64 cut short, a frame that can't be.
	ErrDamaged = envelope.ErrDamaged
	// ErrVersion: a message of qkdmail in a format that this release does not
	// know.
	ErrVersion = envelope.ErrVersion
	// ErrSuite: a message under a suite that this release does not know.
	ErrSuite = errors.New("unknown cipher suite")
	// ErrSAE: the message is addressed to another SAE than ours, or comes
	// from one that is no peer of ours.
	ErrSAE = errors.New("message is not from a configured peer to this SAE")
	// ErrWrongKey: this key does not belong to this message, or its header
	// was altered.
	ErrWrongKey = errors.New("wrong key or altered header")
	// ErrAltered: what was encrypted is not what arrived: changed, moved,
	// repeated, dropped, cut short.
	ErrAltered = errors.New("message was altered")
	// ErrTooManyKeys: the pad would take more keys than one message may
	// have; AES-256-GCM takes one.
	ErrTooManyKeys = errors.New("message too long for the one-time pad with keys of this size")
	// ErrPad: the key manager's limits allow no key that makes a pad.
	ErrPad = errors.New("no one-time pad with this key manager")
	// ErrOptions: options that make no sense.
	ErrOptions = errors.New("bad option")
)

// fromReading is fromSuite for a message that is read: what it says of its keys
// is the message's fault, and not that of the options or the key manager.
func fromReading(err error) error {
	switch {
	case errors.Is(err, otp.ErrShortKeys):
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	case errors.Is(err, otp.ErrTooManyKeys):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fromSuite(err)
}

// fromSuite turns an error of a suite into one of this package.
func fromSuite(err error) error {
	for _, m := range []struct{ inner, outer error }{
		{gcmstream.ErrCommitment, ErrWrongKey},
		{gcmstream.ErrChunk, ErrAltered},
		{gcmstream.ErrTruncated, ErrDamaged},
		{otp.ErrTag, ErrAltered},
		{otp.ErrFrame, ErrDamaged},
		{otp.ErrKeyID, ErrDamaged},
		{otp.ErrTruncated, ErrDamaged},
		{otp.ErrTrailing, ErrDamaged},
		{otp.ErrKeyRepeated, ErrDamaged},
		{otp.ErrTooManyKeys, ErrTooManyKeys},
		{otp.ErrLimits, ErrPad},
		{otp.ErrShortKeys, kmclient.ErrBadKey},
	} {
		if errors.Is(err, m.inner) {
			return fmt.Errorf("%w: %w", m.outer, err)
		}
	}
	return err
}
