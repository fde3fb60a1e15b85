package sim

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/google/uuid"
)

// A ciphertext is what was seen of an encrypted message on the wire. It has a reader of
// its own, since the program's refuses messages that were cut off.
type ciphertext struct {
	ids     []string // of the keys that it names
	suite   string   // as far as it came
	payload []byte   // as far as it came
	data    []byte
}

// Where a message names its first key, and where its payload begins.
const (
	keyField     = "Qkdmail-Key-ID: "
	payloadField = "Content-Type: application/octet-stream"
	suiteField   = "\r\nSuite: "
)

// readCiphertext reads a message, which may have been cut off anywhere.
func readCiphertext(data []byte) *ciphertext {
	c := &ciphertext{data: data}
	_, rest, found := bytes.Cut(data, []byte(keyField))
	id, rest, ended := bytes.Cut(rest, []byte("\r\n"))
	if !found || !ended {
		return c // no key yet
	}
	c.ids = []string{string(id)}
	before, rest, found := bytes.Cut(rest, []byte(payloadField))
	if !found {
		return c
	}
	_, rest, _ = bytes.Cut(rest, []byte("\r\n\r\n"))
	text, _, _ := bytes.Cut(rest, []byte("\r\n--"))
	text = bytes.TrimRight(bytes.ReplaceAll(text, []byte("\r\n"), nil), "\r=")
	if len(text)%4 == 1 {
		text = text[:len(text)-1]
	}
	c.payload, _ = base64.RawStdEncoding.DecodeString(string(text))
	suite, _, _ := bytes.Cut(after(before, suiteField), []byte("\r\n"))
	if c.suite = string(suite); strings.HasPrefix(c.suite, "OTP") {
		c.frames()
	}
	return c
}

func after(b []byte, what string) []byte {
	_, rest, _ := bytes.Cut(b, []byte(what))
	return rest
}

// hybridSize is the size of what a hybrid suite puts before the payload of the plain one.
const hybridSize = 32 + 1120

// hybrid reports whether reading it takes more than keys of a key manager.
func (c *ciphertext) hybrid() bool { return strings.HasSuffix(c.suite, "+X-WING") }

// isGCM reports whether it has one key, whatever its size.
func (c *ciphertext) isGCM() bool { return strings.HasPrefix(c.suite, "AES") }

// frames reads which keys the frames of a one-time pad name.
func (c *ciphertext) frames() {
	rest := c.payload
	if c.hybrid() {
		rest = rest[min(hybridSize, len(rest)):]
	}
	for number := 0; len(rest) >= 2; number++ {
		n := int(rest[1])
		rest = rest[2:]
		for i := range n {
			if len(rest) == 0 {
				return // cut off
			}
			var id string
			switch end := 1 + int(rest[0]); {
			case len(rest) < end || end == 1 && len(rest) < 17:
				return
			case end == 1:
				id, rest = uuid.UUID(rest[1:17]).String(), rest[17:]
			default:
				id, rest = string(rest[1:end]), rest[end:]
			}
			if number > 0 || i > 0 {
				c.ids = append(c.ids, id)
			}
		}
		if len(rest) < 4 {
			return
		}
		length := int(binary.BigEndian.Uint32(rest)) + 16
		if rest = rest[4:]; len(rest) < length {
			return
		}
		rest = rest[length:]
	}
}
