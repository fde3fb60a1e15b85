package mailer

import (
	"bytes"
	"io"
	"time"
)

// DATA passes go-smtp by, in both directions: it moves it octet by octet, and
// a relay does little else than to move it.

// A dataReader reads the DATA of a client, without the dots that SMTP adds. It
// ends with io.EOF after the lone dot, and with io.ErrUnexpectedEOF where the
// connection did before.
type dataReader struct {
	front *front
	any   bool // the message is refused already: only its end is looked for
}

func (r dataReader) Read(p []byte) (int, error) {
	f := r.front
	for f.inData {
		if len(p) == 0 {
			return 0, nil
		}
		n, err := f.dataPiece(p)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		if f.data.bare && !r.any {
			clear(p[:n]) // who wipes it is told of nothing
			return 0, errBareLineEnd()
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

// dataPiece takes what has come of DATA, and waits if nothing has. It is read
// into p where that has room, and not by way of the intake.
func (f *front) dataPiece(p []byte) (n int, err error) {
	var used int
	var end bool
	switch {
	case len(f.in.buffered()) > 0:
		n, used, end = f.data.undo(p, f.in.buffered())
		f.in.discard(used)
	case len(p) < intakeSize:
		return 0, f.waitData(func() error { return f.in.fill() })
	default:
		var got int
		if err := f.waitData(func() (err error) { got, err = io.ReadAtLeast(f.plain, p, 1); return err }); err != nil {
			return 0, err
		}
		n, used, end = f.data.undo(p, p[:got])
		f.in.giveBack(p[used:got])
		clear(p[n:got])
	}
	f.dataSize += int64(used)
	f.inData = !end
	return n, nil
}

// waitData waits for more of DATA, from a client that is fast enough.
func (f *front) waitData(read func() error) error {
	if spent := f.dataWait - f.opts.DataIdle; spent > 0 && f.dataSize < int64(spent.Seconds()*float64(f.opts.MinRate)) {
		return errTooSlow
	}
	if err := f.flush(); err != nil {
		return err
	}
	start := time.Now()
	if wait := f.opts.DataIdle; wait > 0 {
		if err := f.plain.SetReadDeadline(start.Add(wait)); err != nil {
			return err
		}
	}
	err := read()
	f.dataWait += time.Since(start) // not the next hop's or key manager's time
	return err
}

// A dataState follows the lines of DATA, and sees the end of data where
// go-smtp's own reader does: at CR LF . CR LF and at nothing else. A bare CR
// makes all the difference: CR CR LF is no line end.
type dataState struct {
	state byte
	bare  bool // a CR was dropped that is no part of a line end, as go-smtp does
}

// The states of go-smtp's dataReader.
const (
	stateBeginLine = iota
	stateDot
	stateDotCR
	stateCR
	stateData
	stateEOF
)

// undo moves octets from src to dst, without the dots that SMTP adds, and
// reports how many it put and took, and the end of data.
func (d *dataState) undo(dst, src []byte) (n, used int, end bool) {
	for n < len(dst) && used < len(src) && d.state != stateEOF {
		if d.state == stateData {
			run := d.plain(src[used:min(len(src), used+len(dst)-n)])
			n += copy(dst[n:], run)
			used += len(run)
			continue
		}
		c := src[used]
		used++
		switch d.state {
		case stateBeginLine:
			switch c {
			case '.':
				d.state = stateDot
				continue
			case '\r':
				d.state = stateCR
			default:
				d.state = stateData
			}
		case stateDot:
			d.state = stateData
			if c == '\r' {
				d.state = stateDotCR
				continue
			}
		case stateDotCR:
			if c == '\n' {
				d.state = stateEOF
				continue
			}
			d.state, d.bare = stateData, true
		case stateCR:
			d.state = stateData
			if c == '\n' {
				d.state = stateBeginLine
			}
		}
		dst[n] = c
		n++
	}
	return n, used, d.state == stateEOF
}

// plain returns what of p, which begins in stateData, stays as it is, and moves
// on to the state behind it: whole lines up to one that begins with a dot or a
// CR, or the rest of p.
func (d *dataState) plain(p []byte) []byte {
	for from := 0; ; from += len("\r\nx") {
		i := bytes.IndexByte(p[from:], '\r')
		if i < 0 {
			return p
		}
		if from += i; from+2 >= len(p) || p[from+1] != '\n' || p[from+2] == '.' || p[from+2] == '\r' {
			d.state = stateCR
			return p[:from+1]
		}
	}
}

// A dataWriter writes DATA to a next hop, in large pieces with CRLF and with
// the dots that SMTP adds. The rest of it is for whoever ends DATA.
type dataWriter struct {
	conn   io.Writer
	begins bool // the next octet begins a line
	cr     bool // the last octet was a CR
	block  *block
	out    []byte // in block
	used   int    // octets of block, at most
	err    error  // of conn
}

func newDataWriter(conn io.Writer) *dataWriter {
	b := getBlock()
	return &dataWriter{conn: conn, begins: true, block: b, out: b[:0]}
}

// What is taken in at once, and written out at once. Dots and CRs double a
// piece at most, so that a block has room for both.
const (
	dataPiece = len(block{}) / 8
	dataBurst = len(block{}) - 2*dataPiece
)

func (w *dataWriter) Write(p []byte) (n int, err error) {
	for n < len(p) && w.err == nil {
		piece := p[n:min(len(p), n+dataPiece)]
		w.add(piece)
		w.used = max(w.used, len(w.out))
		n += len(piece)
		if len(w.out) >= dataBurst {
			w.send(len(w.out) - len("\r\n"))
		}
	}
	return n, w.err
}

// add appends a piece to what is to be written.
func (w *dataWriter) add(p []byte) {
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

// lines returns how many octets of p can go out together: whole lines with
// CRLF, up to and with one that has no CR or that a dot stands behind. ended is
// whether they end a line, and cr whether with a CR before the LF.
func (w *dataWriter) lines(p []byte) (n int, ended bool) {
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

// send writes out so many octets of what is held back.
func (w *dataWriter) send(n int) {
	_, w.err = w.conn.Write(w.out[:n])
	w.out = w.out[:copy(w.out, w.out[n:])]
}

// rest is what was not written yet, without the last line end: go-smtp's own
// writer, which has seen nothing, ends with CRLF . CRLF.
func (w *dataWriter) rest() []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(w.out, []byte("\n")), []byte("\r"))
}

// free gives the buffer back, and the rest with it.
func (w *dataWriter) free() {
	w.block.free(w.used)
	w.block, w.out = nil, nil
}
