package cipher

import (
	"fmt"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

// PadCost is what a message takes with SuiteOTP.
type PadCost struct {
	Frames   int64 // each of which takes one request for keys, or more
	Keys     int64 // keys, exactly
	KeySize  int   // bits of the longest of them
	KeyBytes int64 // of all of them together, exactly

	// MessageBytes is what the encrypted message has at least, with CRLF line ends:
	// its payload, if key IDs take Status.KeyIDBytes each (1 byte where that is not
	// known), without the header and the note.
	MessageBytes int64
}

// PadCostOf returns what a message of size bytes takes with SuiteOTP from a key
// manager with this status: by its limits, whatever its stock. It is computed
// by the code that encrypts. The error is ErrPad where the limits rule a pad
// out, and ErrTooManyKeys where the message is too long for keys so short.
func PadCostOf(s kmclient.Status, size int64) (PadCost, error) {
	if size < 0 {
		return PadCost{}, fmt.Errorf("%w: a message of %d bytes", ErrOptions, size)
	}
	c, err := padLimits(s).Cost(size)
	if err != nil {
		return PadCost{}, fromSuite(err)
	}
	id := int64(max(1, min(s.KeyIDBytes, kmclient.MaxIDLength)))
	return PadCost{
		Frames: c.Frames, Keys: c.Keys, KeySize: c.KeySize, KeyBytes: c.KeyBytes,
		MessageBytes: envelope.PayloadText(c.Frames*otp.FrameOverhead + c.Keys*(1+id) + size),
	}, nil
}

// padLimits are the limits that a pad must keep to. How many keys there are in
// a request or in stock is none of them.
func padLimits(s kmclient.Status) otp.Limits {
	return otp.Limits{MinKeySize: s.MinKeySize, MaxKeySize: s.MaxKeySize}
}

// padKeys gets the keys of a frame, with at most most keys a request; 0 is no
// limit. Where a later request fails, keys of the earlier ones are wiped, and
// counted: they have encrypted nothing.
func (w *Writer) padKeys(size, number, most int) ([]*kmclient.Key, error) {
	keys := make([]*kmclient.Key, 0, number)
	for len(keys) < number {
		n := number - len(keys)
		if most > 0 {
			n = min(n, most)
		}
		some, err := w.keys.GetKeys(w.ctx, w.opts.Peer, size, n)
		keys = append(keys, some...)
		for _, k := range some {
			w.info.KeyIDs = append(w.info.KeyIDs, k.ID())
		}
		if err == nil && (len(some) == 0 || len(some) > n) {
			err = fmt.Errorf("%w: asked for %d keys and got %d", kmclient.ErrBadKey, n, len(some))
		}
		if err != nil {
			kmclient.WipeAll(keys)
			w.info.WastedKeys += len(keys)
			return nil, err
		}
	}
	return keys, nil
}
