// Package message reads the header of a message in transit, and checks the bytes of the
// message.
package message

import (
	"bytes"
	"io"
	"iter"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// A Reader reads a message from its beginning, with the header in memory. It frees the
// header once that has been read and nothing else needs it.
type Reader struct {
	raw       []byte // the header and what was read after it
	size      int    // bytes of the header, with its blank line
	read      int    // bytes of raw that Read has returned
	passing   bool   // nothing looks at the header any more
	rest      io.Reader
	messageID string

	block   *block.Block // where raw is, unless the header is long
	used    int          // bytes of raw that may hold mail
	take    func(n int64) error
	charged int64 // bytes of memory that were asked for
}

// maxMessageID is how much of a message ID is kept for the log, in bytes.
const maxMessageID = 1000

// NewReader reads a message up to the end of its header, at most limit bytes, and some of
// what follows. Call Free after use. If the header takes more than a block, NewReader
// asks for its memory with take, for the whole transaction, since copies of parts of the
// header outlive the Reader.
func NewReader(r io.Reader, limit int, take func(n int64) error) (_ *Reader, err error) {
	h := &Reader{block: block.Get(), rest: r, take: take}
	h.raw = h.block[:0:min(len(h.block), limit+1)]
	defer func() {
		if err != nil {
			h.Free()
		}
	}()
	for {
		n, err := io.ReadAtLeast(r, h.raw[len(h.raw):cap(h.raw)], 1)
		seen := max(0, len(h.raw)-len("\n\r")) // a blank line may have begun there
		h.raw = h.raw[:len(h.raw)+n]
		h.used = len(h.raw)
		atEnd := err == io.EOF
		if err != nil && !atEnd {
			return nil, err
		}
		full := len(h.raw) == cap(h.raw)
		if atEnd || full || bytes.Contains(h.raw[seen:], []byte("\n\r\n")) || bytes.Contains(h.raw[seen:], []byte("\n\n")) {
			size, done := rawheader.End(h.raw, rawheader.Lenient)
			if done || atEnd {
				h.size = size
				id := onlyID(h.Text("Message-ID"))
				h.messageID = strings.Clone(id[:min(len(id), maxMessageID)])
				return h, nil
			}
			if len(h.raw) > limit {
				return nil, refusal.New(552, smtp.EnhancedCode{5, 3, 4}, "header size", "Header too large")
			}
		}
		if full {
			if err := h.grow(min(2*cap(h.raw), limit+1)); err != nil {
				return nil, err
			}
		}
	}
}

// grow makes room for a header of room bytes.
func (h *Reader) grow(room int) error {
	more := int64(room-block.Size) - h.charged // the memory of a message includes the block
	if err := h.take(more); err != nil {
		return err
	}
	h.charged += more
	longer := append(make([]byte, 0, room), h.raw...)
	h.wipe()
	h.raw, h.used = longer, len(longer)
	return nil
}

// wipe wipes raw and gives its block back.
func (h *Reader) wipe() {
	if h.block != nil {
		h.block.Free(h.used)
		h.block = nil
	} else {
		clear(h.raw[:h.used])
	}
	h.raw, h.used = nil, 0
}

// Free frees the header, which must not be used any more.
func (h *Reader) Free() {
	if h == nil || h.raw == nil {
		return
	}
	h.wipe()
	h.size, h.read = 0, 0
}

// Pass says that from now on the message is only read, and its header no longer looked
// at.
func (h *Reader) Pass() {
	if h.passing = true; h.read == len(h.raw) {
		h.Free()
	}
}

// Read reads the message.
func (h *Reader) Read(p []byte) (int, error) {
	if h.read == len(h.raw) {
		return h.rest.Read(p)
	}
	n := copy(p, h.raw[h.read:])
	if h.read += n; h.passing && h.read == len(h.raw) {
		h.Free()
	}
	return n, nil
}

// Header returns the header.
func (h *Reader) Header() []byte { return h.raw[:h.size] }

// SkipHeader returns the header; Read goes on after it.
func (h *Reader) SkipHeader() []byte {
	h.read = h.size
	return h.Header()
}

// onlyID returns the message ID in the text of its field: what is in angle brackets, or
// else the only word. Comments and other words may tell what the message is about.
func onlyID(text string) string {
	text = strings.TrimSpace(text)
	for _, n := rawheader.Comment(text); n > 0; _, n = rawheader.Comment(text) {
		text = strings.TrimSpace(text[n:])
	}
	if i := strings.IndexByte(text, '>'); i > 0 && text[0] == '<' {
		text = text[:i+1]
	}
	if strings.ContainsAny(text, " \t\r\n(") {
		return ""
	}
	return text
}

// Start returns the header and whatever else is in memory; for an empty message, nothing.
func (h *Reader) Start() []byte { return h.raw }

// MessageID returns the beginning of the Message-ID, also after Free. It is "" if there
// are words in the field that are no ID.
func (h *Reader) MessageID() string { return h.messageID }

// Charged returns how much memory was asked for, in bytes.
func (h *Reader) Charged() int64 { return h.charged }

// fields yields the fields of the header.
func (h *Reader) fields() iter.Seq[rawheader.Field] {
	return rawheader.Fields(h.raw[:h.size], rawheader.Lenient)
}

// Count returns how many fields have this name.
func (h *Reader) Count(name string) int {
	n := 0
	for f := range h.fields() {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// Text returns the value of the first field with this name.
func (h *Reader) Text(name string) string {
	f, _ := rawheader.First(h.raw[:h.size], rawheader.Lenient, name)
	return f.Text()
}

// DropOwnWords removes the fields that only the relay may write. Nothing else of the
// message is changed.
func (h *Reader) DropOwnWords() {
	kept, from := 0, 0 // bytes of raw that stay, and where the next of them begin
	for f := range h.fields() {
		if isOwnWord(f) { // the scan is done with all before the end of f
			kept += copy(h.raw[kept:], h.raw[from:f.Offset])
			from = f.Offset + len(f.Raw)
		}
	}
	if from > 0 {
		h.raw = h.raw[:kept+copy(h.raw[kept:], h.raw[from:])]
		h.size -= from - kept
	}
}

// isOwnWord reports whether only the relay itself may write a field of this name: all
// names that begin with Qkdmail-, except the one in encrypted messages.
func isOwnWord(f rawheader.Field) bool {
	const own = "Qkdmail-"
	return len(f.Name) >= len(own) && strings.EqualFold(string(f.Name[:len(own)]), own) && !f.Is("Qkdmail-Key-ID")
}
