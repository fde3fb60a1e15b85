package cipher

import (
	"bytes"
	"time"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/kmclient"
)

// Info describes an encrypted message. It holds no key and no content.
type Info struct {
	Suite        Suite
	Time         time.Time // of encryption, in whole seconds
	SenderSAE    string    // "": the message has none
	RecipientSAE string    // "": the message has none
	KeyID        string    // in the control part; for OTP, the first of several
	KeyIDs       []string  // in the order of use, as the key manager spells them; if Encrypt fails, all that were fetched

	// Fingerprint identifies the X-Wing key that a message under a hybrid suite is
	// encrypted to.
	Fingerprint Fingerprint

	// Identity distinguishes the message from any other under the same key. Only
	// Decrypt sets it, before it asks for the first key and, with OTP, after it has
	// read the first frame. It proves nothing until a key has verified that part.
	Identity kmclient.Identity

	// PlaintextSize is the size of the message before encryption, in bytes. Decrypt
	// counts what it has released. Inspect can't see where the recipient list ends, so
	// it counts that too: 4 bytes, and 16 for each recipient.
	PlaintextSize int64
	// PayloadSize is the size of the payload before base64, in bytes. Only
	// Inspect sets it.
	PayloadSize int64

	// Outer is the header of the encrypted message, unfolded and in order. Only
	// Inspect sets it.
	Outer []Field
	// Transit are the trace fields above Qkdmail-Key-ID, which relays added on the way:
	// Received, Return-Path (RFC 5321 §4.4), Delivered-To (RFC 9228) and
	// Authentication-Results (RFC 8601), raw, at most 64 KiB. It is empty if there is
	// no Qkdmail-Key-ID. Encrypt does not set it.
	Transit [][]byte

	// Bcc reports that the message has a Bcc or Resent-Bcc field, which is encrypted
	// with the rest. Only Encrypt sets it.
	Bcc bool
	// NoPad is why SuiteAuto took AES-256-GCM for a message short enough for the pad.
	// It wraps ErrPad, and does not change unless the key manager's limits do. Only
	// Encrypt sets it.
	NoPad error
	// WastedKeys is the number of keys that were fetched and wiped unused because
	// others for the same frame could not be had. Encrypt has then failed, and the last
	// of KeyIDs are theirs. Only Encrypt sets it.
	WastedKeys int
	// NoHeader reports that the message does not begin with a header field, so
	// that the outer From is made up. Only Encrypt sets it.
	NoHeader bool
}

// A Field is an unfolded header field.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// outerInfo returns what the outer message says.
func outerInfo(outer *envelope.Reader) Info {
	return Info{
		Suite:        Suite(outer.Control.Suite),
		KeyID:        outer.Control.KeyID,
		Time:         outer.Control.Time,
		SenderSAE:    readableSAE(outer.Control.SenderSAE),
		RecipientSAE: readableSAE(outer.Control.RecipientSAE),
		Transit:      transit(outer.Header),
	}
}

// maxTransit is the largest size of all trace fields kept, in bytes.
const maxTransit = 64 << 10

// transit returns copies of the trace fields above Qkdmail-Key-ID, as far as
// maxTransit allows.
func transit(header []byte) (fields [][]byte) {
	names := []string{"Received", "Return-Path", "Delivered-To", "Authentication-Results"}
	size := 0
	for f := range rawheader.Fields(header, rawheader.Lenient) {
		if f.Is(envelope.KeyIDField) {
			return fields
		}
		if isOne(f, names) && size+len(f.Raw) <= maxTransit {
			size += len(f.Raw)
			fields = append(fields, bytes.Clone(f.Raw))
		}
	}
	return nil
}
