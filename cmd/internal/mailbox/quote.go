package mailbox

import (
	"bytes"
	"io"

	"golang.org/x/text/transform"
)

// Unquote returns a reader of the message that is quoted in text, as in an mbox file.
func (q Quoting) Unquote(text io.Reader) io.Reader {
	return transform.NewReader(text, &quoter{q: q})
}

// Quote returns a writer that quotes a message for an mbox file. Close writes the rest,
// and does not close dst.
func (q Quoting) Quote(dst io.Writer) io.WriteCloser {
	return transform.NewWriter(dst, &quoter{q: q, add: true})
}

// A quoter adds one ">" to the lines that need it, or removes it.
type quoter struct {
	q      Quoting
	add    bool
	inside bool // a line, where nothing changes
}

// Reset implements [transform.Transformer].
func (t *quoter) Reset() { t.inside = false }

// Transform implements [transform.Transformer].
func (t *quoter) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if !t.inside {
			marks, known := t.marks(src[nSrc:], atEOF)
			switch {
			case !known:
				return nDst, nSrc, transform.ErrShortSrc
			case len(dst)-nDst < 2:
				return nDst, nSrc, transform.ErrShortDst
			case marks == more:
				dst[nDst] = '>'
				nDst++
			case marks == fewer:
				nSrc++
			case marks == undecided: // one of several ">"
				dst[nDst] = '>'
				nDst, nSrc = nDst+1, nSrc+1
				continue
			}
			t.inside = true
			continue
		}
		line := src[nSrc:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		n := copy(dst[nDst:], line)
		nDst, nSrc = nDst+n, nSrc+n
		if n < len(line) {
			return nDst, nSrc, transform.ErrShortDst
		}
		t.inside = line[n-1] != '\n'
	}
	return nDst, nSrc, nil
}

// What to do with the ">" of a line.
type change int

const (
	same change = iota
	more
	fewer
	undecided // keep this one, and look at the next
)

// marks returns what to do where text begins, which is at the beginning of a line or
// after ">", and whether there is enough text to tell.
func (t *quoter) marks(text []byte, all bool) (c change, known bool) {
	levels := t.q != O
	if text[0] != '>' {
		yes, known := t.q.separates(text, all)
		if yes && t.add {
			return more, known
		}
		return same, known
	}
	switch {
	case t.add && levels:
		return undecided, true
	case t.add:
		return same, true
	case len(text) == 1:
		return same, all
	case text[1] == '>' && levels:
		return undecided, true
	}
	yes, known := t.q.separates(text[1:], all)
	if yes {
		return fewer, known
	}
	return same, known
}
