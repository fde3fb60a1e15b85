// Package keyjson reads JSON with keys in it, and leaves as few copies of them
// behind as it can.
package keyjson

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Read reads r to its end. announced is its length, where known. It
// leaves no copy behind as it grows: what it reads may be keys.
func Read(r io.Reader, announced, limit int64) ([]byte, error) {
	tooLarge := fmt.Errorf("%w: over %d bytes", kmclient.ErrBadAnswer, limit)
	if announced > limit {
		return nil, tooLarge
	}
	buf := make([]byte, 0, max(announced, 511)+1) // room for the read that meets the end
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			clear(buf)
			return nil, tooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			clear(buf)
			return nil, err
		case len(buf) == cap(buf):
			grown := make([]byte, len(buf), 2*cap(buf))
			copy(grown, buf)
			clear(buf)
			buf = grown
		}
	}
}

// Bytes decodes base64 straight from JSON, with no string in between
// that could not be cleared afterwards.
type Bytes []byte

// UnmarshalJSON takes standard base64 with its padding only (RFC 4648 §4),
// without line breaks and with the unused bits zero (§3.5).
func (o *Bytes) UnmarshalJSON(raw []byte) error {
	if len(raw) < 2 || raw[0] != '"' {
		return errors.New("a key that is not a string")
	}
	text := raw[1 : len(raw)-1]
	if bytes.Contains(text, []byte(`\/`)) { // some JSON libraries write "/" so
		text = bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))
		defer clear(text)
	}
	if bytes.ContainsAny(text, "\\\r\n") { // encoding/base64 skips line breaks
		return errors.New("a key that is not base64")
	}
	clear(*o) // the member may come twice
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(secret, text)
	if err != nil {
		clear(secret)
		*o = nil
		return errors.New("a key that is not base64")
	}
	*o = secret[:n]
	return nil
}
