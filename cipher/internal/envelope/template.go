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

// A template is the text before and after the payload, without the outer header and
// with gaps for what differs from message to message. go-message writes it once for all
// messages with the same note, since that takes longer than encrypting a short message.
type template struct {
	note          string
	crlf          bool
	before, after gapped
}

// The gaps of a template.
const (
	mixedBoundary = iota
	envelopeBoundary
	controlText
	gaps
)

type templateValues [gaps]string

// gapped is text with gaps. Each piece but the first begins with a digit: the
// number of the gap before it.
type gapped []string

func (g gapped) append(b []byte, values *templateValues) []byte {
	b = append(b, g[0]...)
	for _, piece := range g[1:] {
		b = append(b, values[piece[0]-'0']...)
		b = append(b, piece[1:]...)
	}
	return b
}

// lastTemplate is the template used last, which nearly every message needs again.
var lastTemplate atomic.Pointer[template]

func templateFor(note string, crlf bool) (*template, error) {
	if t := lastTemplate.Load(); t != nil && t.note == note && t.crlf == crlf {
		return t, nil
	}
	t, err := newTemplate(note, crlf)
	if err == nil {
		lastTemplate.Store(t)
	}
	return t, err
}

// newTemplate has go-message write a message with marks in place of the gaps. A
// mark is as long as a boundary, so that lines fold in the same places.
func newTemplate(note string, crlf bool) (*template, error) {
	prefix := rand.Text()[1:]
	w := templateWriter{mark: func(gap int) string { return prefix + strconv.Itoa(gap) }}
	if err := w.open(note); err != nil {
		return nil, err
	}
	t := &template{note: note, crlf: crlf}
	t.before = strings.Split(withLineEnds(w.text.String(), crlf), prefix)
	w.text.Reset()
	for i := range w.multipart {
		if err := w.multipart[len(w.multipart)-1-i].Close(); err != nil {
			return nil, err
		}
	}
	t.after = strings.Split(withLineEnds(w.text.String(), crlf), prefix)
	return t, nil
}

// A templateWriter writes a template with go-message.
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
	// go-message writes only the header of this part: its base64 writer works line by
	// line, but base64Writer in blocks.
	_, err := w.inner().CreatePart(payload)
	return err
}

// multipartHeader returns the header of a multipart. The boundary is among the
// params: if go-message has to make one, it moves Content-Type to the top.
func multipartHeader(mediaType string, params map[string]string) (h message.Header) {
	h.SetContentType(mediaType, params)
	return h
}

func (w *templateWriter) inner() *message.Writer { return w.multipart[len(w.multipart)-1] }

// openMultipart begins a multipart, the outermost one or a part of the innermost.
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

// part writes a part with text into the innermost multipart.
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
