package envelope

import (
	"bytes"
	"crypto/rand"
	"io"

	"github.com/emersion/go-message"
)

// WriterOptions is what stands around the payload.
type WriterOptions struct {
	// Outer are the fields that stand outside, complete and folded, each with
	// its CRLF, US-ASCII or UTF-8, and without the fields that Writer adds
	// itself (Qkdmail-Key-ID, MIME-Version, Content-Type).
	Outer   [][]byte
	Control Control
	Note    string // for whoever sees the message undecrypted; may be empty
	CRLF    bool   // line ends: CRLF, else LF
}

// A Writer writes the payload, base64 in lines of 76 columns, between what
// stands before and after it. The message is complete only after Close.
type Writer struct {
	*base64Writer
	text      *bytes.Buffer // what go-message wrote and dst did not get yet
	dst       io.Writer
	crlf      bool
	multipart []*message.Writer // outermost first
}

// NewWriter writes to dst all that stands before the payload.
func NewWriter(dst io.Writer, opts WriterOptions) (*Writer, error) {
	if err := opts.Control.Check(); err != nil {
		return nil, err
	}
	w := &Writer{text: new(bytes.Buffer), dst: dst, crlf: opts.CRLF}
	if err := w.open(opts); err != nil {
		return nil, err
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	w.base64Writer = newBase64Writer(dst, opts.CRLF)
	return w, nil
}

// open writes the header and the parts up to the payload.
func (w *Writer) open(opts WriterOptions) error {
	encrypted := multipartHeader("multipart/encrypted", map[string]string{"protocol": ControlType})

	if opts.Note == "" {
		if err := w.openMultipart(outerHeader(encrypted, opts)); err != nil {
			return err
		}
	} else {
		mixed := multipartHeader("multipart/mixed", map[string]string{})
		if err := w.openMultipart(outerHeader(mixed, opts)); err != nil {
			return err
		}
		var note message.Header
		note.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
		note.Set("Content-Transfer-Encoding", "quoted-printable")
		if err := w.part(note, opts.Note); err != nil {
			return err
		}
		if err := w.openMultipart(encrypted); err != nil {
			return err
		}
	}

	var control message.Header
	control.SetContentType(ControlType, nil)
	if err := w.part(control, opts.Control.Text()); err != nil {
		return err
	}
	var payload message.Header
	payload.Set("Content-Transfer-Encoding", "base64")
	payload.SetContentType(payloadType, nil)
	// Only the header of this part is go-message's: its base64 writer works
	// line by line, ours in blocks.
	_, err := w.inner().CreatePart(payload)
	return err
}

// multipartHeader returns the header of a multipart with a boundary of its own:
// where go-message makes one, it puts Content-Type above all other fields.
func multipartHeader(mediaType string, params map[string]string) (h message.Header) {
	params["boundary"] = rand.Text()
	h.SetContentType(mediaType, params)
	return h
}

// outerHeader puts the fields of the outer message in their order around the
// Content-Type of h. go-message adds fields on top, so it is built from the
// last to the first.
func outerHeader(h message.Header, opts WriterOptions) message.Header {
	h.AddRaw([]byte("MIME-Version: 1.0\r\n"))
	for i := range opts.Outer {
		h.AddRaw(opts.Outer[len(opts.Outer)-1-i])
	}
	h.AddRaw([]byte(KeyIDField + ": " + opts.Control.KeyID + "\r\n"))
	return h
}

func (w *Writer) inner() *message.Writer { return w.multipart[len(w.multipart)-1] }

// openMultipart starts a multipart, inside the innermost one or as the whole.
func (w *Writer) openMultipart(h message.Header) (err error) {
	var mw *message.Writer
	if len(w.multipart) == 0 {
		mw, err = message.CreateWriter(w.text, h)
	} else {
		mw, err = w.inner().CreatePart(h)
	}
	if err != nil {
		return err
	}
	w.multipart = append(w.multipart, mw)
	return nil
}

// part writes a whole part of text into the innermost multipart.
func (w *Writer) part(h message.Header, text string) error {
	p, err := w.inner().CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(p, text); err != nil {
		return err
	}
	return p.Close()
}

// flush writes out what go-message has written, with the line ends asked for.
func (w *Writer) flush() error {
	b := bytes.ReplaceAll(w.text.Bytes(), []byte("\r\n"), []byte("\n"))
	w.text.Reset()
	if w.crlf {
		b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
	}
	_, err := w.dst.Write(b)
	return err
}

// Close ends the payload and the message. It does not close dst.
func (w *Writer) Close() error {
	if err := w.base64Writer.Close(); err != nil {
		return err
	}
	for i := range w.multipart {
		if err := w.multipart[len(w.multipart)-1-i].Close(); err != nil {
			return err
		}
	}
	return w.flush()
}
