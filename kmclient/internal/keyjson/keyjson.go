// Package keyjson reads JSON that holds keys, and leaves as few copies of them in
// memory as it can.
package keyjson

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Read reads r to its end, up to limit bytes. announced is the length if known, else
// negative. A buffer that is too small is cleared when it is replaced.
func Read(r io.Reader, announced, limit int64) ([]byte, error) {
	tooLarge := fmt.Errorf("%w: over %d bytes", kmclient.ErrBadAnswer, limit)
	if announced > limit {
		return nil, tooLarge
	}
	buf := make([]byte, 0, max(announced, 511)+1) // room for the read that returns io.EOF
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

// Bytes are decoded from base64 in JSON without an intermediate string, which could not
// be cleared.
type Bytes []byte

// UnmarshalJSON decodes standard base64 with padding (RFC 4648 §4), without line
// breaks, and with the unused bits zero (§3.5).
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	if len(raw) < 2 || raw[0] != '"' {
		return errors.New("a key that is not a string")
	}
	text := raw[1 : len(raw)-1]
	if bytes.Contains(text, []byte(`\/`)) { // as some JSON libraries write "/"
		text = bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))
		defer clear(text)
	}
	if bytes.ContainsAny(text, "\\\r\n") { // encoding/base64 skips line breaks
		return errors.New("a key that is not base64")
	}
	clear(*b) // the member may occur twice
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(secret, text)
	if err != nil {
		clear(secret)
		*b = nil
		return errors.New("a key that is not base64")
	}
	*b = secret[:n]
	return nil
}
