package mailer

import (
	"bytes"
	"io"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// The fields in which the relay tells the mail system behind it what it found, and
// what was found of the encrypted message on its way. Those from outside are
// removed.
const (
	ResultField      = "Qkdmail-Result"
	outerResultField = "Qkdmail-Outer-Authentication-Results"
)

// A head is the header of a message that is being read.
type head struct {
	fields []rawheader.Field
	size   int          // octets of the header, with its blank line
	whole  io.Reader    // the message from its beginning
	raw    []byte       // what was read of it so far
	block  *block.Block // where that is, but for a long header; nil: no more
}

// free gives back what the header was read into. Nothing of it may be used any
// more.
func (h *head) free() {
	if h != nil && h.block != nil {
		h.block.Free(min(len(h.raw), len(h.block)))
		h.block = nil
	}
}

// readHead reads a message up to the end of its header, at most limit octets,
// and some of what follows. It has to be freed.
func readHead(r io.Reader, limit int) (_ *head, err error) {
	h := &head{block: block.Get()}
	buf := h.block[:0:min(len(h.block), limit+1)]
	defer func() {
		if h.raw = buf; err != nil {
			h.free()
		}
	}()
	for {
		n, err := io.ReadAtLeast(r, buf[len(buf):cap(buf)], 1)
		seen := max(0, len(buf)-len("\n\r")) // a blank line may have begun there
		buf = buf[:len(buf)+n]
		atEnd := err == io.EOF
		if err != nil && !atEnd {
			return nil, err
		}
		if atEnd || len(buf) == cap(buf) || bytes.Contains(buf[seen:], []byte("\n\r\n")) || bytes.Contains(buf[seen:], []byte("\n\n")) {
			fields, size, done := rawheader.Scan(buf, rawheader.Lenient)
			if len(fields) >= rawheader.MaxFields {
				// Those behind are out of sight, and must not get past us.
				return nil, refuse(552, smtp.EnhancedCode{5, 3, 4}, "header size", "Too many header fields")
			}
			if done || atEnd {
				h.fields, h.size, h.whole = fields, size, io.MultiReader(bytes.NewReader(buf), r)
				return h, nil
			}
			if len(buf) > limit {
				return nil, refuse(552, smtp.EnhancedCode{5, 3, 4}, "header size", "Header too large")
			}
		}
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, min(len(buf), limit+1-len(buf)))...)[:len(buf)]
		}
	}
}

// count returns how many fields have this name.
func (h *head) count(name string) int {
	n := 0
	for _, f := range h.fields {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// text returns the value of the first field with this name.
func (h *head) text(name string) string {
	for _, f := range h.fields {
		if f.Is(name) {
			return f.Text()
		}
	}
	return ""
}

// withoutOwn returns the message without the fields whose names are the relay's own
// words to those behind it; nothing else of it is changed.
func (h *head) withoutOwn() io.Reader {
	var kept []byte
	rest := h.raw
	for _, f := range h.fields {
		if !isOwnWord(f) {
			continue
		}
		kept = append(kept, h.raw[len(h.raw)-len(rest):f.Offset]...)
		rest = h.raw[f.Offset+len(f.Raw):]
	}
	if len(rest) == len(h.raw) {
		return h.whole
	}
	// whole begins with raw, which is replaced.
	tail := io.Reader(h.whole)
	_, _ = io.CopyN(io.Discard, tail, int64(len(h.raw)))
	return io.MultiReader(bytes.NewReader(append(kept, rest...)), tail)
}

// isOwnWord reports whether only the relay itself may write a field of this name:
// all that begin with Qkdmail-, but for the one of encrypted messages.
func isOwnWord(f rawheader.Field) bool {
	const own = "Qkdmail-"
	return len(f.Name) >= len(own) && strings.EqualFold(string(f.Name[:len(own)]), own) && !f.Is("Qkdmail-Key-ID")
}
