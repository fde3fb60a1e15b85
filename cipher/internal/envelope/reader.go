package envelope

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-message"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/kmclient"
)

// maxControlBody is the largest size of an encoded control part, in bytes:
// quoted-printable may take three bytes for one.
const maxControlBody = 4 * maxControl

// A Reader reads the payload of a qkdmail message. Before it returns io.EOF, it
// reads the rest of the message too; if there is a second encrypted part in it,
// the Reader returns an ErrDamaged instead.
type Reader struct {
	// Header is the header of the outer message, with its blank line. The
	// caller may set it to nil: reading the payload does not need it.
	Header  []byte
	Control *Control

	walk    *walker
	decoder base64Decoder
	lines   *buffer.Buffer // for decoder
	block   [smallRead]byte
	buf     []byte // decoded and not yet read; in block
	ended   bool   // the payload is over
	err     error
}

// smallRead is the size of a read, in bytes, below which more is decoded than the
// caller asked for.
const smallRead = 1024

// NewReader reads a message up to the payload. beginning is what the caller has
// read of it, and rest is what follows. If beginning has the whole header, it is
// not copied. The error is ErrNotEncrypted for other mail, and ErrDamaged or
// ErrVersion for a qkdmail message that can't be read.
func NewReader(beginning []byte, rest io.Reader) (*Reader, error) {
	header, body, whole := cutHeader(beginning)
	if len(body) > 0 {
		rest = io.MultiReader(bytes.NewReader(body), rest)
	}
	p := &Reader{Header: header, walk: newWalker(rest)}
	if err := p.open(whole); err != nil {
		p.Free()
		return nil, err
	}
	return p, nil
}

// open goes to the payload. hasHeader means that p.Header is complete.
func (p *Reader) open(hasHeader bool) (err error) {
	w := p.walk
	ended := false
	if !hasHeader {
		p.Header, ended, err = w.header(maxHeader)
	}
	if err == errTooLong || len(p.Header) > maxHeader {
		return ErrNotEncrypted // no qkdmail message has such a long header
	}
	if err != nil {
		return err
	}
	if !ended {
		w.enter(readContentType(fieldText(p.Header, "Content-Type")))
		p.Control, err = p.find()
	}
	_, named := rawheader.First(p.Header, rawheader.Lenient, KeyIDField)
	switch {
	case err != nil:
		return err
	case p.Control != nil:
		return p.checkKeyID()
	case named || w.ours > 0:
		return damaged("the encrypted part is gone")
	default:
		return ErrNotEncrypted
	}
}

// Free returns the buffers to their pools and ends the Reader. It is not needed
// after Read has returned an error, io.EOF included.
func (p *Reader) Free() {
	if p.walk == nil {
		return
	}
	p.walk.free()
	p.lines.Free(0) // ciphertext
	p.walk, p.lines, p.buf, p.decoder = nil, nil, nil, base64Decoder{}
	if p.err == nil {
		p.err = errFreed
	}
}

var errFreed = errors.New("read after free")

// checkKeyID compares the header field, which is an index for filters and people,
// with the control part, which is authoritative.
func (p *Reader) checkKeyID() error {
	for f := range rawheader.Fields(p.Header, rawheader.Lenient) {
		if f.Is(KeyIDField) && kmclient.CanonicalID(f.Text()) != kmclient.CanonicalID(p.Control.KeyID) {
			return damaged("%s and the control part name different keys", KeyIDField)
		}
	}
	return nil
}

func errTwo() error { return damaged("two encrypted parts in one message") }

// find goes to the control part and on to the payload after it. It returns nil,
// nil if there is none.
func (p *Reader) find() (*Control, error) {
	for len(p.walk.inside) > 0 {
		pt, err := p.walk.nextPart()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if pt.mediaType == ControlType {
			if others := p.walk.ours; others > 1 || others == 1 && !p.walk.inside[pt.level].encrypted {
				return nil, errTwo()
			}
			return p.control(pt)
		}
		if p.walk.inside[pt.level].encrypted {
			return nil, damaged("multipart/encrypted begins with %.60q, not with the control part", pt.mediaType)
		}
	}
	return nil, nil
}

// control reads a control part and the header of the payload after it.
func (p *Reader) control(pt *part) (*Control, error) {
	body, err := p.walk.body(maxControlBody)
	if err == errTooLong {
		return nil, damaged("control part over %d bytes", maxControlBody)
	}
	if err != nil {
		return nil, err
	}
	text, err := undoEncoding(body, pt.encoding)
	if err != nil {
		return nil, err
	}
	c, err := ParseControl(text)
	if err != nil {
		return nil, err
	}
	next, err := p.walk.nextPart()
	if err != nil && err != io.EOF {
		return nil, err
	}
	if err == io.EOF || next.level != pt.level || next.mediaType != payloadType {
		return nil, damaged("no payload after the control part")
	}
	if next.encoding != "base64" {
		return nil, damaged("the payload's transfer encoding is %.40q, not base64", next.encoding)
	}
	return c, nil
}

// undoEncoding decodes the body of a control part, which mail systems may have
// re-encoded.
func undoEncoding(body []byte, encoding string) ([]byte, error) {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return body, nil
	}
	var h message.Header
	h.Set("Content-Transfer-Encoding", encoding)
	e, err := message.New(h, bytes.NewReader(body))
	if err != nil {
		return nil, damaged("control part: unknown transfer encoding %.40q", encoding)
	}
	text, err := io.ReadAll(io.LimitReader(e.Body, maxControl+1))
	if err != nil {
		return nil, damaged("control part: broken %s", strings.ToLower(encoding))
	}
	return text, nil
}

// Read reads bytes of the payload.
func (p *Reader) Read(b []byte) (n int, err error) {
	for len(p.buf) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		if len(b) >= smallRead {
			n, p.err = p.fill(b)
		} else {
			n, p.err = p.fill(p.block[:])
			p.buf = p.block[:n]
		}
		if p.err != nil {
			p.Free()
		} else if len(b) >= smallRead && n > 0 {
			return n, nil
		}
	}
	n = copy(b, p.buf)
	p.buf = p.buf[n:]
	return n, nil
}

// fill decodes the next lines into dst.
func (p *Reader) fill(dst []byte) (int, error) {
	if p.ended {
		return 0, p.finish()
	}
	w := p.walk
	ahead, err := w.br.Peek(2)
	if len(ahead) == 0 {
		if err != io.EOF {
			return 0, err
		}
		p.ended = true
		return 0, p.endBase64()
	}
	if w.lineStart && string(ahead) == "--" {
		delimiter, err := w.atDelimiter()
		if err != nil {
			return 0, err
		}
		if !delimiter {
			return 0, damaged("%v", errBase64)
		}
		p.ended = true
		return 0, p.endBase64()
	}
	if p.lines == nil {
		p.lines = buffer.Get()
		p.decoder.quads = p.lines[:0]
	}
	text := p.text(len(dst)/3*4 - len(p.decoder.quads))
	w.lineStart = text[len(text)-1] == '\n'
	n, err := p.decoder.decode(dst, text)
	_, _ = w.br.Discard(len(text))
	if err != nil {
		return 0, damaged("%v", err)
	}
	return n, nil
}

// text returns the next bytes of the payload, at most most of them, in whole lines
// if possible. It ends before what may be a delimiter.
func (p *Reader) text(most int) []byte {
	br := p.walk.br
	b, _ := br.Peek(br.Buffered())
	if bytes.IndexByte(b, '\n') < 0 {
		_, _ = br.Peek(len(b) + 1) // the rest of the line
		b, _ = br.Peek(br.Buffered())
	}
	b = b[:min(len(b), most)]
	// Base64 has no "-": the first one begins a delimiter, or is an error that
	// the decoder finds.
	if i := bytes.IndexByte(b, '-'); i > 0 && b[i-1] == '\n' {
		b = b[:i]
	} else if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[:i+1]
	} else if n := len(b) - 1; n > 0 && b[n] == '\r' {
		b = b[:n] // its LF may be the next byte
	}
	return b
}

func (p *Reader) endBase64() error {
	if err := p.decoder.end(); err != nil {
		return damaged("%v", err)
	}
	return nil
}

// finish reads what follows the payload, and returns io.EOF if there is no second
// encrypted part.
func (p *Reader) finish() error {
	w := p.walk
	ours := w.ours
	for len(w.inside) > 0 {
		pt, err := w.nextPart()
		if err != nil {
			return err
		}
		if pt.mediaType == ControlType || w.ours > ours {
			return errTwo()
		}
		if w.inside[pt.level].encrypted {
			return damaged("multipart/encrypted has more than two parts") // RFC 1847 §2.2
		}
	}
	return w.drain()
}
