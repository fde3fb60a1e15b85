package smtpwire

import (
	"bytes"
	"io"

	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// An Unstuffer removes the dots that SMTP adds to DATA (RFC 5321 §4.5.2), and finds the
// end only at CR LF . CR LF. All other bytes are passed on, bare CRs and LFs included:
// the reader must refuse those (§2.3.8). The zero value is at the beginning of DATA.
type Unstuffer struct{ state byte }

// The states of an Unstuffer.
const (
	beginsLine = iota
	afterDot   // the dot began a line, and is dropped
	afterDotCR // neither is passed on yet
	afterCR
	inLine
)

// Next moves bytes of DATA from src to dst, and returns how many it has written and taken,
// and whether the end of DATA was among them. It stops at the end of DATA, of src, or
// when dst is full. src may be a part of dst that begins at its second byte or later.
func (u *Unstuffer) Next(dst, src []byte) (n, used int, end bool) {
	for used < len(src) && n < len(dst) {
		if u.state == inLine {
			run := u.run(src[used:min(len(src), used+len(dst)-n)])
			n += copy(dst[n:], run)
			used += len(run)
			continue
		}
		c := src[used]
		switch {
		case u.state == beginsLine && c == '.':
			u.state = afterDot
			used++
			continue
		case u.state == afterDot && c == '\r':
			u.state = afterDotCR
			used++
			continue
		case u.state == afterDotCR && c == '\n':
			u.state = beginsLine
			return n, used + 1, true
		case u.state == afterDotCR: // the CR belongs to the line after all
			u.state = afterCR
			dst[n] = '\r'
			n++
			continue
		}
		u.state = stateAfter(c, u.state == afterCR)
		dst[n] = c
		n++
		used++
	}
	return n, used, false
}

// stateAfter is the state after a byte that is passed on.
func stateAfter(c byte, cr bool) byte {
	switch {
	case c == '\r':
		return afterCR
	case c == '\n' && cr:
		return beginsLine
	}
	return inLine
}

// run returns the first part of p that stays as it is, and moves on to the state after
// it: whole lines up to one that begins with a dot or a CR, or all of p. p begins within
// a line.
func (u *Unstuffer) run(p []byte) []byte {
	for from := 0; ; from += len("\r\nx") {
		i := bytes.IndexByte(p[from:], '\r')
		if i < 0 {
			return p
		}
		if from += i; from+2 >= len(p) || p[from+1] != '\n' || p[from+2] == '.' || p[from+2] == '\r' {
			u.state = afterCR
			return p[:from+1]
		}
	}
}

// A DataWriter writes a message as DATA: in large pieces, with CRLF at the ends of lines
// and with the dots that SMTP adds. It writes nothing until it has a large piece, or is
// closed.
type DataWriter struct {
	dst    io.Writer
	begins bool // the next byte begins a line
	cr     bool // the last byte was a CR
	block  *block.Block
	out    []byte // in block
	used   int    // bytes of block, at most
	err    error  // of dst
}

// NewDataWriter returns a DataWriter on dst. Call Free after use.
func NewDataWriter(dst io.Writer) *DataWriter {
	b := block.Get()
	return &DataWriter{dst: dst, begins: true, block: b, out: b[:0]}
}

// How much is taken and written at once. Dots and CRs at most double a piece, so a block
// has room for them, and for the end.
const (
	dataPiece = block.Size / 8
	dataBurst = block.Size - 2*dataPiece - len("\r\n.\r\n")
)

// Write takes a part of the message. An error is the underlying writer's.
func (w *DataWriter) Write(p []byte) (n int, err error) {
	for n < len(p) && w.err == nil {
		piece := p[n:min(len(p), n+dataPiece)]
		w.add(piece)
		w.used = max(w.used, len(w.out))
		n += len(piece)
		if len(w.out) >= dataBurst {
			w.flush()
		}
	}
	return n, w.err
}

// add appends a piece to what is to be written.
func (w *DataWriter) add(p []byte) {
	for len(p) > 0 {
		if w.begins && p[0] == '.' {
			w.out = append(w.out, '.')
		}
		n, ended := w.lines(p)
		w.out = append(w.out, p[:n]...)
		if ended && !w.cr {
			w.out = append(w.out[:len(w.out)-1], "\r\n"...)
		}
		if ended {
			w.cr = false
		}
		w.begins, p = ended, p[n:]
	}
}

// lines returns how many bytes of p can go out together: whole lines with CRLF, up to and
// including one that has no CR or is followed by a dot. ended is whether they end a line,
// and w.cr whether there is a CR before the LF.
func (w *DataWriter) lines(p []byte) (n int, ended bool) {
	for {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			w.cr = p[len(p)-1] == '\r'
			return len(p), false
		}
		if i > 0 {
			w.cr = p[n+i-1] == '\r'
		}
		n += i + 1
		if !w.cr || n == len(p) || p[n] == '.' {
			return n, true
		}
		w.cr = false
	}
}

func (w *DataWriter) flush() {
	_, w.err = w.dst.Write(w.out)
	w.out = w.out[:0]
}

// Err returns the error of the underlying writer, if there was one.
func (w *DataWriter) Err() error { return w.err }

// Close writes the rest and the end of DATA. A message that ends within a line gets a
// line end.
func (w *DataWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	if !w.begins {
		if w.cr {
			w.out = append(w.out, '\n')
		} else {
			w.out = append(w.out, "\r\n"...)
		}
	}
	w.out = append(w.out, ".\r\n"...)
	w.used = max(w.used, len(w.out))
	w.flush()
	return w.err
}

// Free wipes the buffer and gives it back.
func (w *DataWriter) Free() {
	w.block.Free(w.used)
	w.block, w.out = nil, nil
}
