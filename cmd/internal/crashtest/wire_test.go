package crashtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
)

// serveSMTP serves a mail server of the test and returns its address.
func serveSMTP(t testing.TB, take func(from string, to []string, r io.Reader) error) string {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{take: take}, nil }))
	server.Domain = "test.invalid"
	server.MaxLineLength = 0
	server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

type mailSession struct {
	take func(from string, to []string, r io.Reader) error
	from string
	to   []string
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from, s.to = from, nil
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error { return s.take(s.from, s.to, r) }
func (s *mailSession) Reset()                 { s.from, s.to = "", nil }
func (s *mailSession) Logout() error          { return nil }

// busy is what a mail server says now and then, having seen all of a message.
var busy = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Busy, try again later"}

// linger waits a little, so that more can happen in the meantime.
func linger(most time.Duration) { time.Sleep(rand.N(most)) }

// keyField and payloadField are where a message of the program names its first
// key, and where its payload begins. They are read here once more, without the
// program's own reader: it would refuse what was cut off.
const (
	keyField     = "Qkdmail-Key-ID: "
	payloadField = "Content-Type: application/octet-stream"
	suiteOTP     = "\r\nSuite: OTP\r\n"
)

// A ciphertext is what was seen of an encrypted message on the wire.
type ciphertext struct {
	ids     []string // keys that it names
	payload []byte   // as far as it came
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
			err = nil // cut off in the middle of an octet
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

// frames reads which keys the frames of a one-time pad name.
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
