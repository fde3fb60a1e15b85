// Package sender finds out whose mail a message may be, and what a header field may say,
// in any mail program's reading.
package sender

import (
	"bytes"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// A Sender is what the From fields of a message may be read as. They decide whether mail
// has to be encrypted and whose it may be, so it is not enough to read correct ones: what
// any mail program may show as the sender counts.
//
// If a program may take From for empty, Sender counts too, since older Thunderbirds then
// show it. Resent-From does not count: it is for information only (RFC 5322 §3.6.6), and
// no program shows it in place of From.
type Sender struct {
	Domains  []string // all that may be the sender's, in some program's reading
	Readable bool     // all that can be shown is known

	seen map[string]bool // the domains
	work int             // characters looked at for them
}

// Bounds of what is read: bytes of the fields, domains found and characters looked at.
// Real fields have less than 2 KiB; those that exceed a bound are unreadable.
const (
	maxSender  = 8 << 10
	maxDomains = 500
	maxWork    = 100 * maxSender
)

// Read returns the sender of a message by its header.
func Read(header []byte) Sender {
	from, all := values(header, "From", maxSender)
	if len(from) == 0 || slices.ContainsFunc(from, mayBeEmpty) {
		more, allMore := values(header, "Sender", maxSender)
		from, all = append(from, more...), all && allMore
	}
	s := readValues(from...)
	s.Readable = s.Readable && all
	return s
}

// Readings returns what the fields with a name may say, each text on one line and without
// blanks around it: as it is, with encoded words decoded as some programs do, and as a
// person sees it. all reports whether that is everything; it is not if a field can't be
// decoded, or the fields are too long.
func Readings(header []byte, name string) (texts []string, all bool) {
	fields, all := values(header, name, maxSender)
	for _, field := range fields {
		decoded, whole := decodings(unfolded(field))
		all = all && whole
		for _, text := range decoded {
			text = strings.TrimSpace(text)
			texts = append(texts, text)
			if shown := shownText(text); shown != text {
				texts = append(texts, shown)
			}
		}
	}
	return texts, all
}

// values returns the values of all fields with a name, up to a limit in bytes.
func values(header []byte, name string, limit int) (list []string, all bool) {
	for f := range rawheader.Fields(header, rawheader.Lenient) {
		if !f.Is(name) {
			continue
		}
		if limit -= len(f.Value) + 1; limit < 0 {
			return list, false
		}
		list = append(list, string(f.Value))
	}
	return list, true
}

// mayBeEmpty reports whether a strict reader finds no address in the value of a field,
// such as one that is only a comment.
func mayBeEmpty(value string) bool {
	list, err := mail.ParseAddressList(unfolded(value))
	return err != nil || len(list) == 0
}

func unfolded(value string) string {
	return strings.ReplaceAll(strings.ReplaceAll(value, "\r\n", ""), "\n", "")
}

// readValues reads the values of fields, with their folds.
func readValues(values ...string) Sender {
	s := Sender{Readable: true, seen: map[string]bool{}}
	for _, value := range values {
		readings, whole := decodings(unfolded(value))
		s.Readable = s.Readable && whole
		for _, reading := range readings {
			s.read(shownText(reading))
			if strings.ContainsFunc(reading, isRightToLeft) {
				s.read(shownText(rightToLeft(reading)))
			}
		}
	}
	return s
}

// isHiding reports whether a character may hide others, or show them in another
// order: controls, and those that embed, override or isolate a direction (UAX #9 §2). No
// name has any.
func isHiding(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069'
}

// read finds the domains in a text, those after each "@", for each way of reading
// comments.
func (s *Sender) read(text string) {
	styles := []commentStyle{{kept: true}}
	if strings.Contains(text, "(") {
		styles = append(styles, commentStyle{nest: true, pairs: true}, commentStyle{nest: true}, commentStyle{})
	}
	s.work += len(text)
	for {
		_, rest, ok := strings.Cut(text, "@")
		if !ok {
			return
		}
		for _, style := range styles {
			s.readDomain(rest, style)
		}
		text = rest
	}
}

// readDomain finds the domains that a text may begin with. At something that no domain
// contains, such as a blank, a quotation mark or a comment, some programs end the domain
// and others skip it: both readings count. A dot does not end a domain, since example.co
// does not own example.co.uk.
func (s *Sender) readDomain(text string, style commentStyle) {
	var d bytes.Buffer
	length := 0
	dot := true // one more would make an empty label
	for i, size := 0, 0; i < len(text) && s.hasTime(); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		switch {
		case strings.ContainsRune("@,;:", r): // a domain never goes on after these
			s.add(d.String())
			return
		case isDot(r) && !dot:
			d.WriteByte('.')
			dot = true
		case isOfDomain(r):
			if length++; length > address.MaxDomain {
				return // of no one
			}
			d.WriteRune(r)
			dot = false
		default:
			s.add(d.String())
			if r == '(' {
				var looked int
				size, looked = style.comment(text[i:])
				s.work += looked
			}
		}
	}
	s.add(d.String())
}

// hasTime counts a step and reports whether it may be taken.
func (s *Sender) hasTime() bool {
	s.work++
	s.Readable = s.Readable && s.work <= maxWork
	return s.work <= maxWork
}

// add adds a domain.
func (s *Sender) add(d string) {
	if d == "" || s.seen[d] {
		return
	}
	if len(s.Domains) == maxDomains {
		s.Readable = false
		return
	}
	s.seen[d] = true
	s.Domains = append(s.Domains, d)
}

func isDot(r rune) bool { return r == '.' || r == '\u3002' } // IDNA takes the others that NFKC leaves for dots

func isOfDomain(r rune) bool {
	return r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// A commentStyle is how a program reads comments in parentheses (RFC 5322 §3.2.2). It
// matters only for a parenthesis within a domain: what comes before, such as a quoted
// string with a parenthesis, must not make a difference.
type commentStyle struct {
	kept  bool // the parentheses are left out, their content is not
	nest  bool // comments may have comments
	pairs bool // a backslash quotes what follows
}

// comment returns the length of the comment that a text begins with, and how much was
// looked at. A comment that is not closed counts as just its parenthesis, since programs
// disagree on where it ends.
func (c commentStyle) comment(text string) (length, looked int) {
	if c.kept {
		return 1, 1
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && c.pairs:
			i++
		case text[i] == '(' && (c.nest || depth == 0):
			depth++
		case text[i] == ')':
			if depth--; depth == 0 {
				return i + 1, i + 1
			}
		}
	}
	return 1, len(text)
}

// shownText returns a text as a person sees it: without characters that are never shown
// (Unicode's Default_Ignorable_Code_Point), and with compatibility variants of letters
// as the letters (NFKC).
func shownText(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
		return text
	}
	text = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Cf, unicode.Variation_Selector) {
			return -1
		}
		return r
	}, text)
	return norm.NFKC.String(text)
}

func isRightToLeft(r rune) bool { return slices.Contains([]bidi.Class{bidi.R, bidi.AL}, classOf(r)) }

func classOf(r rune) bidi.Class {
	p, _ := bidi.LookupRune(r)
	return p.Class()
}

// rightToLeft returns a text in the order in which it is shown if its first letter is
// written from right to left, as the invisible U+200F is: from its end to its beginning,
// except for parts that are written from left to right (UAX #9 §3.3, roughly).
func rightToLeft(text string) string {
	shown := []rune(text)
	slices.Reverse(shown)
	start, end := -1, -1 // of a part from left to right
	turn := func() {
		if start >= 0 {
			slices.Reverse(shown[start:end])
		}
		start = -1
	}
	for i, r := range shown {
		switch classOf(r) {
		case bidi.R, bidi.AL:
			turn()
		case bidi.L, bidi.EN, bidi.AN:
			if start < 0 {
				start = i
			}
			end = i + 1
		}
	}
	turn()
	return string(shown)
}
