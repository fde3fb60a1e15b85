package cipher

import (
	"fmt"
	"math"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

// PadCost is what a message takes with SuiteOTP.
type PadCost struct {
	Frames   int64 // each takes one or more requests for keys
	Keys     int64 // number of keys
	KeySize  int   // size of the longest key, in bits
	KeyBytes int64 // size of all keys together, in bytes

	// MessageBytes is the least size of the encrypted message, in bytes: that of the
	// payload as text with CRLF, without header, note and what X-Wing adds. Each key ID
	// counts as Status.KeyIDBytes, or as 1 byte if that is unknown.
	MessageBytes int64
}

// PadCostOf returns what a message of size bytes, sealed for this many recipients,
// takes with SuiteOTP under the limits in this status, whatever the stock of keys. The
// cost is exact except for MessageBytes. The error is ErrPad if the limits rule out a
// pad, and ErrTooManyKeys if the message is too long for keys of that size.
func PadCostOf(s kmclient.Status, size int64, recipients int) (PadCost, error) {
	if size < 0 || recipients < 0 || recipients > MaxRecipients {
		return PadCost{}, fmt.Errorf("%w: a message of %d bytes for %d recipients", ErrOptions, size, recipients)
	}
	size += min(int64(listSize(recipients)), math.MaxInt64-size)
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

// padLimits returns the limits for a pad. They do not include the number of keys in a
// request or in stock.
func padLimits(s kmclient.Status) otp.Limits {
	return otp.Limits{MinKeySize: s.MinKeySize, MaxKeySize: s.MaxKeySize}
}

// padKeys gets the keys of a frame, at most perRequest at a time unless that is 0. If a
// request fails, it wipes and counts the keys of earlier requests, which have encrypted
// nothing.
func (w *Writer) padKeys(size, number, perRequest int) ([]*kmclient.Key, error) {
	keys := make([]*kmclient.Key, 0, number)
	for len(keys) < number {
		n := number - len(keys)
		if perRequest > 0 {
			n = min(n, perRequest)
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
