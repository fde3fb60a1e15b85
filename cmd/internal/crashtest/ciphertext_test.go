package crashtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// keyField and payloadField find where an encrypted message names its first
// key, and where its payload begins. The tests have their own reader, since the
// program's refuses truncated messages.
const (
	keyField     = "Qkdmail-Key-ID: "
	payloadField = "Content-Type: application/octet-stream"
	suiteOTP     = "\r\nSuite: OTP\r\n"
)

// A ciphertext is the part of an encrypted message that was seen on the wire.
type ciphertext struct {
	ids     []string // keys that it names
	payload []byte   // as far as it arrived
}

// parseCiphertext reads a message, which may have been cut off anywhere.
func parseCiphertext(data []byte) (ciphertext, error) {
	var c ciphertext
	_, rest, found := bytes.Cut(data, []byte(keyField))
	id, rest, whole := bytes.Cut(rest, []byte("\r\n"))
	if !found || !whole {
		return c, nil // no key yet
	}
	c.ids = []string{string(id)}
	before, rest, found := bytes.Cut(rest, []byte(payloadField))
	if !found {
		return c, nil
	}
	_, rest, _ = bytes.Cut(rest, []byte("\r\n\r\n"))
	text, _, _ := bytes.Cut(rest, []byte("\r\n--"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), nil)
	text = bytes.TrimRight(text, "\r=")
	payload, err := base64.RawStdEncoding.DecodeString(string(text[:len(text)-len(text)%4]))
	if len(text)%4 != 0 && err == nil {
		var last []byte
		last, err = base64.RawStdEncoding.DecodeString(string(text[len(text)-len(text)%4:]))
		if err != nil {
			err = nil // cut off in the middle of a byte
		}
		payload = append(payload, last...)
	}
	if err != nil {
		return c, fmt.Errorf("payload: %w", err)
	}
	c.payload = payload
	if bytes.Contains(before, []byte(suiteOTP)) {
		return c, c.frames()
	}
	return c, nil
}

// frames reads the key IDs in the frames of a one-time pad.
func (c *ciphertext) frames() error {
	rest := c.payload
	for number := 0; len(rest) >= 2; number++ {
		n := int(rest[1])
		rest = rest[2:]
		for i := range n {
			var id string
			switch {
			case len(rest) == 0 || len(rest) < 1+int(rest[0]) || rest[0] == 0 && len(rest) < 17:
				return nil // cut off
			case rest[0] == 0:
				id, rest = uuid.UUID(rest[1:17]).String(), rest[17:]
			default:
				id, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
			}
			switch {
			case number > 0 || i > 0:
				c.ids = append(c.ids, id)
			case id != c.ids[0]:
				return fmt.Errorf("the first key is %s in the header and %s in the frame", c.ids[0], id)
			}
		}
		if len(rest) < 4 {
			return nil
		}
		length := int(binary.BigEndian.Uint32(rest)) + 16
		if rest = rest[4:]; len(rest) < length {
			return nil
		}
		rest = rest[length:]
	}
	return nil
}

// forge changes a character of a message's payload.
func forge(data []byte) []byte {
	at := bytes.Index(data, []byte(payloadField))
	at += bytes.Index(data[at:], []byte("\r\n\r\n")) + 4 + 70
	data = bytes.Clone(data)
	if data[at] == 'A' {
		data[at] = 'B'
	} else {
		data[at] = 'A'
	}
	return data
}
