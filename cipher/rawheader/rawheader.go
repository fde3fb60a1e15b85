// Package rawheader scans the header of a message in place. It returns slices of
// the message, changes nothing, and reads any input. A mail library that parses
// and writes back won't do: what a user signed must be restored byte for byte.
//
// A line ends with LF; CRs before it belong to the line end. If the first line of
// the input ends with a bare CR, every CR, LF and CRLF ends a line, as in files
// from old Macs.
//
// Some mail programs put lines above the first field that belong to no field: a
// UTF-8 byte order mark, an mbox separator ("From …"), and separators that were
// quoted when the message went into another mailbox (">From …").
//
// The header ends at the first blank line. In a strict scan it also ends at the first
// line that can't be part of a field: the blank line may have been lost, and lines of
// the body must not be read as fields. A lenient scan skips such lines.
//
// The package also reads what many fields share: dates, comments and quoted strings.
package rawheader

import (
	"bytes"
	"iter"
	"strings"
)

// A Field is a header field, in slices of the scanned bytes.
type Field struct {
	Raw   []byte // the whole field, with folds and line ends
	Name  []byte // as spelled, without the colon and blanks before it
	Value []byte // everything after the colon, without the last line end

	Offset int // of Raw in the scanned bytes
	value  int // where Value begins in them
}

// Is reports whether the field has this name, in any case.
func (f Field) Is(name string) bool { return strings.EqualFold(string(f.Name), name) }

// Text returns the value on one line: without line ends, and without blanks around
// it.
func (f Field) Text() string {
	if bytes.IndexByte(f.Value, '\n') < 0 && bytes.IndexByte(f.Value, '\r') < 0 {
		return string(bytes.Trim(f.Value, " \t"))
	}
	return strings.Trim(unfolder.Replace(string(f.Value)), " \t")
}

// unfolder works byte by byte: the value need not be UTF-8.
var unfolder = strings.NewReplacer("\r", "", "\n", "")

// A Mode says what a scan does at a line that can't be part of a field.
type Mode int

const (
	Strict  Mode = iota // end the header
	Lenient             // skip the line
)

// Fields yields the fields of the header at the start of b. If b ends before the
// header does, the last field may be incomplete. Fields allocates nothing, however
// many fields there are.
func Fields(b []byte, mode Mode) iter.Seq[Field] {
	return func(yield func(Field) bool) { scan(b, mode, yield) }
}

// First returns the first field with this name in the header at the start of b.
func First(b []byte, mode Mode, name string) (Field, bool) {
	for f := range Fields(b, mode) {
		if f.Is(name) {
			return f, true
		}
	}
	return Field{}, false
}

// End returns the size in bytes of the header at the start of b, with its blank
// line. done is false if b ends before the header does.
func End(b []byte, mode Mode) (n int, done bool) {
	return scan(b, mode, func(Field) bool { return true })
}

// scan yields the fields until yield returns false. If it never does, scan returns the
// result of End.
func scan(b []byte, mode Mode, yield func(Field) bool) (n int, done bool) {
	bareCR := firstEndIsBareCR(b)
	top := skipTop(b, bareCR)
	var field Field // the open one, if its Raw is not nil
	for pos := top; pos < len(b); {
		text, size, ended := cutLine(b[pos:], bareCR)
		mode := mode
		if !ended {
			mode = Lenient // the line is incomplete, and may be a field
		}
		if len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
			if field.Raw != nil {
				field.Raw, field.Value = b[field.Offset:pos+size], b[field.value:pos+len(text)]
			} else if mode == Strict && pos == top {
				return top, true
			}
			pos += size
			continue
		}
		if field.Raw != nil && !yield(field) {
			return pos, false
		}
		field = Field{}
		name, colon := fieldName(text)
		switch {
		case len(text) == 0 && ended:
			return pos + size, true
		case name != nil:
			field = Field{Raw: b[pos : pos+size], Name: name, Value: text[colon+1:], Offset: pos, value: pos + colon + 1}
		case mode == Strict:
			return pos, true
		}
		pos += size
	}
	if field.Raw != nil {
		yield(field)
	}
	return len(b), false
}

// cutLine returns the first line of b without its line end, its size with the line
// end, and whether it has one.
func cutLine(b []byte, bareCR bool) (text []byte, size int, ended bool) {
	if bareCR {
		// Not by searching for LF, which may be far from each CR.
		if i := bytes.IndexAny(b, "\r\n"); i >= 0 && b[i] == '\r' {
			if i+1 < len(b) && b[i+1] == '\n' {
				return b[:i], i + 2, true
			}
			return b[:i], i + 1, true
		}
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return bytes.TrimRight(b, "\r"), len(b), false
	}
	return bytes.TrimRight(b[:end], "\r"), end + 1, true
}

// firstEndIsBareCR reports whether the first line of b ends with CRs without an LF
// after them.
func firstEndIsBareCR(b []byte) bool {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 || b[i] == '\n' {
		return false
	}
	rest := bytes.TrimLeft(b[i:], "\r")
	return len(rest) > 0 && rest[0] != '\n'
}

// fieldName returns the name at the start of a line and the position of the colon,
// or nil if the line does not begin a field (RFC 5322 §2.2, and §4.5 for blanks
// before the colon).
func fieldName(line []byte) (name []byte, colon int) {
	colon = bytes.IndexByte(line, ':')
	if colon < 0 {
		return nil, 0
	}
	name = bytes.TrimRight(line[:colon], " \t")
	if len(name) == 0 {
		return nil, 0
	}
	for _, c := range name {
		if c < 0x21 || c > 0x7E {
			return nil, 0
		}
	}
	return name, colon
}

// skipTop returns the position after the byte order mark, the mbox separators and
// their continuation lines at the start of b.
func skipTop(b []byte, bareCR bool) int {
	for pos := 0; ; {
		if bytes.HasPrefix(b[pos:], []byte(byteOrderMark)) {
			pos += len(byteOrderMark)
		}
		text, size, ended := cutLine(b[pos:], bareCR)
		if !ended || !isSeparator(text, pos) {
			return pos
		}
		pos += size
	}
}

// isSeparator reports whether the line at pos, above the first field, is part of
// an mbox separator. Only the first line may be an unquoted one.
func isSeparator(line []byte, pos int) bool {
	from := bytes.TrimLeft(line, ">")
	first := pos <= len(byteOrderMark) // a separator is longer
	quoted := len(from) < len(line)
	if bytes.HasPrefix(from, []byte("From ")) && (first || quoted) {
		name, _ := fieldName(line)
		return name == nil // not "From : …", RFC 5322 §4.5
	}
	return !first && len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
}

const byteOrderMark = "\uFEFF" // in UTF-8
