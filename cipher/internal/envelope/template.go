package envelope

import (
	"bytes"
	"crypto/rand"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/emersion/go-message"
)

// A frame is what stands before and after the payload, but for the fields on
// top, with gaps for what each message has of its own. go-message writes it,
// once for all messages with the same note: it takes longer for that than the
// encryption of a short message does.
type template struct {
	note          string
	crlf          bool
	before, after gapped
}

// The gaps of a frame.
const (
	mixedBoundary = iota
	envelopeBoundary
	controlText
	gaps
)

type templateValues [gaps]string

// gapped is text with gaps: each piece but the first begins with the digit of
// the gap before it.
type gapped []string

func (g gapped) append(b []byte, values *templateValues) []byte {
	b = append(b, g[0]...)
	for _, piece := range g[1:] {
		b = append(b, values[piece[0]-'0']...)
		b = append(b, piece[1:]...)
	}
	return b
}

// lastTemplate is nearly always the one that is needed next.
var lastTemplate atomic.Pointer[template]

func templateFor(note string, crlf bool) (*template, error) {
	if f := lastTemplate.Load(); f != nil && f.note == note && f.crlf == crlf {
		return f, nil
	}
	f, err := newTemplate(note, crlf)
	if err == nil {
		lastTemplate.Store(f)
	}
	return f, err
}

// newTemplate lets go-message write a message with marks in the gaps. A mark is as
// long as a boundary, so that lines are folded in the same places.
func newTemplate(note string, crlf bool) (*template, error) {
	prefix := rand.Text()[1:]
	w := templateWriter{mark: func(gap int) string { return prefix + strconv.Itoa(gap) }}
	if err := w.open(note); err != nil {
		return nil, err
	}
	f := &template{note: note, crlf: crlf}
	f.before = strings.Split(withLineEnds(w.text.String(), crlf), prefix)
	w.text.Reset()
	for i := range w.multipart {
		if err := w.multipart[len(w.multipart)-1-i].Close(); err != nil {
			return nil, err
		}
	}
	f.after = strings.Split(withLineEnds(w.text.String(), crlf), prefix)
	return f, nil
}

// A templateWriter writes a frame with go-message.
type templateWriter struct {
	text      bytes.Buffer
	mark      func(gap int) string
	multipart []*message.Writer // outermost first
}

// open writes the MIME fields and the parts up to the payload.
func (w *templateWriter) open(text string) error {
	encrypted := multipartHeader("multipart/encrypted", map[string]string{
		"protocol": ControlType, "boundary": w.mark(envelopeBoundary),
	})
	if text != "" {
		mixed := multipartHeader("multipart/mixed", map[string]string{"boundary": w.mark(mixedBoundary)})
		if err := w.openMultipart(mixed); err != nil {
			return err
		}
		var note message.Header
		note.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
		note.Set("Content-Transfer-Encoding", "quoted-printable")
		if err := w.part(note, text); err != nil {
			return err
		}
	}
	if err := w.openMultipart(encrypted); err != nil {
		return err
	}
	var control message.Header
	control.SetContentType(ControlType, nil)
	if err := w.part(control, w.mark(controlText)); err != nil {
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

// multipartHeader returns the header of a multipart. Where go-message makes the
// boundary, it puts Content-Type above all other fields.
func multipartHeader(mediaType string, params map[string]string) (h message.Header) {
	h.SetContentType(mediaType, params)
	return h
}

func (w *templateWriter) inner() *message.Writer { return w.multipart[len(w.multipart)-1] }

// openMultipart starts a multipart, inside the innermost one or as the whole.
func (w *templateWriter) openMultipart(h message.Header) (err error) {
	var mw *message.Writer
	if len(w.multipart) == 0 {
		h.AddRaw([]byte("MIME-Version: 1.0\r\n"))
		mw, err = message.CreateWriter(&w.text, h)
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
func (w *templateWriter) part(h message.Header, text string) error {
	p, err := w.inner().CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(p, text); err != nil {
		return err
	}
	return p.Close()
}
