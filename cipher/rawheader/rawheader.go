// Package rawheader scans the header of a message in place: it reads octets
// and points into them, never changes, re-folds or re-orders anything, and has
// an answer for every input. A mail library that parses and writes back would
// not do, since what a user signed must come back octet for octet.
//
// A line ends with LF; CRs before it belong to the line end. Where the first
// line of the input ends with a bare CR, every CR, LF and CRLF ends a line, as
// in files from old Macs.
//
// What mail programs put above the first field belongs to no field: a UTF-8
// byte order mark, an mbox separator ("From …"), and separators that were
// quoted when the message went into another mailbox (">From …").
//
// The header ends at the first blank line. It also ends, for a strict scan, at
// the first line that can't be part of a field: what follows may be the body
// of a message whose blank line was lost, and its lines must not be taken for
// fields. A lenient scan skips such lines.
//
// The package also reads what many fields have in common: dates, comments and
// quoted strings.
package rawheader

import (
	"bytes"
	"iter"
	"strings"
)

// A Field is one header field, as slices of the scanned octets.
type Field struct {
	Raw   []byte // the whole field with folds and line ends
	Name  []byte // as spelled, without the colon and blanks before it
	Value []byte // all after the colon, without the last line end

	Offset int // of Raw in the scanned bytes
	value  int // where Value begins in them
}

// Is reports whether the field has this name, in any case.
func (f Field) Is(name string) bool { return strings.EqualFold(string(f.Name), name) }

// Text returns the value on one line: line ends inside it removed, blanks
// around it trimmed.
func (f Field) Text() string {
	if bytes.IndexByte(f.Value, '\n') < 0 && bytes.IndexByte(f.Value, '\r') < 0 {
		return string(bytes.Trim(f.Value, " \t"))
	}
	return strings.Trim(unfolder.Replace(string(f.Value)), " \t")
}

// unfolder works octet by octet: the value need not be UTF-8.
var unfolder = strings.NewReplacer("\r", "", "\n", "")

// Mode says what a scan does with a line that can't be part of a field.
type Mode int

const (
	Strict  Mode = iota // the header ends there
	Lenient             // the line is skipped
)

// Fields yields the fields of the header at the start of b. Where b ends before the
// header does, the last one may go on. However many there are, none takes memory.
func Fields(b []byte, mode Mode) iter.Seq[Field] {
	return func(yield func(Field) bool) { scan(b, mode, yield) }
}

// First returns the first field of the header at the start of b with this name.
func First(b []byte, mode Mode, name string) (Field, bool) {
	for f := range Fields(b, mode) {
		if f.Is(name) {
			return f, true
		}
	}
	return Field{}, false
}

// End returns how many bytes the header at the start of b takes, with the blank
// line. done is false where b ends before the header does.
func End(b []byte, mode Mode) (n int, done bool) {
	return scan(b, mode, func(Field) bool { return true })
}

// scan yields the fields until yield returns false. What it returns is that of End
// then, if it has come to the end.
func scan(b []byte, mode Mode, yield func(Field) bool) (n int, done bool) {
	bareCR := firstEndIsBareCR(b)
	top := skipTop(b, bareCR)
	var field Field // the open one, if its Raw is not nil
	for pos := top; pos < len(b); {
		text, size, ended := cutLine(b[pos:], bareCR)
		mode := mode
		if !ended {
			mode = Lenient // the line may go on, and be a field then
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

// cutLine returns the first line of b without its line end, its size with it,
// and whether it has one.
func cutLine(b []byte, bareCR bool) (text []byte, size int, ended bool) {
	if bareCR {
		// Not by looking for an LF first, which may be far away from each CR.
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

// firstEndIsBareCR reports whether the first line of b ends with CRs that no
// LF follows.
func firstEndIsBareCR(b []byte) bool {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 || b[i] == '\n' {
		return false
	}
	rest := bytes.TrimLeft(b[i:], "\r")
	return len(rest) > 0 && rest[0] != '\n'
}

// fieldName returns the name at the start of a line and where its colon is,
// nil if the line starts no field: RFC 5322 §2.2 and, for blanks before the
// colon, §4.5.
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

// skipTop returns where the first line begins that is no mbox separator, and
// no continuation of one, without the byte order mark before it.
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

// isSeparator reports whether the line at pos, above the first field, is part
// of an mbox separator. Only the first line may be one without quoting.
func isSeparator(line []byte, pos int) bool {
	from := bytes.TrimLeft(line, ">")
	first := pos <= len(byteOrderMark) // a separator is longer
	quoted := len(from) < len(line)
	if bytes.HasPrefix(from, []byte("From ")) && (first || quoted) {
		name, _ := fieldName(line)
		return name == nil // and no "From : …", RFC 5322 §4.5
	}
	return !first && len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
}

const byteOrderMark = "\uFEFF" // in UTF-8
