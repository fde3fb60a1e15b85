package cipher

import (
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

// What can be wrong with a message, with options, or with a key manager's
// limits. Other errors of a key source, finder or binder are passed on, wrapped.
var (
	// ErrNotEncrypted means ordinary mail, not an encrypted message.
	ErrNotEncrypted = envelope.ErrNotEncrypted
	// ErrDamaged means that the structure of the message is broken: a part is
	// missing or doubled, base64 is cut short, a frame is malformed.
	ErrDamaged = envelope.ErrDamaged
	// ErrVersion means a version of the format that this release does not know.
	ErrVersion = envelope.ErrVersion
	// ErrSuite means a suite that this release does not know.
	ErrSuite = errors.New("unknown cipher suite")
	// ErrHybridKey means that the message is for an X-Wing key that is not among
	// DecryptOptions.Hybrid.
	ErrHybridKey = errors.New("no X-Wing private key for this message")
	// ErrSAE means that the message is addressed to another SAE, or comes from
	// one that is not a configured peer.
	ErrSAE = errors.New("message is not from a configured peer to this SAE")
	// ErrWrongKey means that the key does not belong to the message, or that
	// the control part was altered.
	ErrWrongKey = errors.New("wrong key or altered header")
	// ErrAltered means that the content was changed, reordered, repeated or cut
	// short.
	ErrAltered = errors.New("message was altered")
	// ErrTooManyKeys means that the pad would take more keys than a message may have.
	// AES-256-GCM takes only one.
	ErrTooManyKeys = errors.New("message too long for the one-time pad with keys of this size")
	// ErrPad means that the key manager's limits leave no key that could make a pad.
	ErrPad = errors.New("no one-time pad with this key manager")
	// ErrOptions means that an option has an invalid value.
	ErrOptions = errors.New("bad option")
)

// fromReading is fromSuite for decryption: if the keys are wrong, the message is to
// blame, not the options or the key manager.
func fromReading(err error) error {
	switch {
	case errors.Is(err, otp.ErrShortKeys):
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	case errors.Is(err, otp.ErrTooManyKeys):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fromSuite(err)
}

// fromSuite wraps an error of a suite in one of this package.
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
