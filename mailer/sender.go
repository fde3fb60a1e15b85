package mailer

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/unicode/norm"
)

// A sender is what the From fields of a message may be read as. They decide
// whether mail has to be encrypted and whose it may be, so it is not enough to
// read what is correct: whatever any mail program may show as the sender counts.
type sender struct {
	fields  []string
	tooMuch bool // there is more of it than fields has
}

// How much of From is read: bytes, and fields.
const (
	maxSender       = 64 << 10
	maxSenderFields = 100
)

// sender returns that of a message.
func (h *head) sender() sender {
	var s sender
	size := 0
	for f := range h.fields() {
		if !f.Is("From") {
			continue
		}
		text := f.Text()
		if size += len(text); size > maxSender || len(s.fields) == maxSenderFields {
			s.tooMuch = true
			break
		}
		s.fields = append(s.fields, text)
	}
	return s
}

// readable reports whether all that can be shown is known. It is not where there is
// too much of it, or an encoded word that can't be decoded here: a mail program may
// be able to.
func (s sender) readable() bool {
	for _, text := range s.fields {
		for _, reading := range decodings(text) {
			if !reading.whole {
				return false
			}
		}
	}
	return !s.tooMuch
}

// domains yields each domain that may be one of a sender's: what follows each "@"
// in every reading of the fields, also without comments. Some come several times.
func (s sender) domains() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, text := range s.fields {
			for _, reading := range decodings(text) {
				if !eachDomain(shownText(reading.text), yield) {
					return
				}
				if strings.Contains(reading.text, "(") && !eachDomain(shownText(withoutComments(reading.text)), yield) {
					return
				}
			}
		}
	}
}

// A decoding is a reading of a text that may hold encoded words (RFC 2047); whole
// says that none of them was beyond us.
type decoding struct {
	text  string
	whole bool
}

// maxNested is how often the outcome of decoding is decoded again: some programs
// do, by mistake.
const maxNested = 3

// decodings returns the readings of a text: as it is, and with its encoded words
// decoded as one program or another does.
func decodings(text string) []decoding {
	list := []decoding{{text, true}}
	for _, way := range []wordReading{{}, {keepBlanks: true, single: true}, {stopAtPadding: true}, {rawBytes: true}} {
		before := text
		for range maxNested {
			if !strings.Contains(before, "=?") {
				break
			}
			after := way.decode(before)
			if !slices.Contains(list, after) {
				list = append(list, after)
			}
			if after.text == before {
				break
			}
			before = after.text
		}
	}
	return list
}

// A wordReading is a way to read encoded words. All are lenient: a charset may have
// a language (RFC 2231 §5), padding may be missing, the end as well, and words may
// be anywhere, within quotes and addresses too.
type wordReading struct {
	keepBlanks    bool // between two words, which RFC 2047 §6.2 drops
	single        bool // each word by itself, even if a character is cut between two
	stopAtPadding bool // base64 ends at "="; else it is skipped
	rawBytes      bool // without regard to the charset
}

// An encodedWord is one in a text, from start to end.
type encodedWord struct {
	start, end              int
	charset, encoding, body string
}

// maxCharset is the longest name of a charset, in bytes, with what is around it.
const maxCharset = 100

// nextWord finds the next encoded word from a place on. Its body ends at "?=", where
// the next word begins, or with the text.
func nextWord(text string, from int) (w encodedWord, ok bool) {
	for {
		i := strings.Index(text[from:], "=?")
		if i < 0 {
			return w, false
		}
		from += i + len("=?")
		w.start = from - len("=?")
		var rest string
		var found bool
		if w.charset, rest, found = strings.Cut(text[from:], "?"); !found || len(w.charset) > maxCharset {
			continue
		}
		if w.encoding, rest, found = strings.Cut(rest, "?"); !found || len(strings.TrimSpace(w.encoding)) != 1 {
			continue
		}
		w.charset, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(w.charset)), "*")
		w.encoding = strings.TrimSpace(w.encoding)
		w.body = bodyOf(rest)
		w.end = len(text) - len(rest) + len(w.body)
		switch after := text[w.end:]; {
		case strings.HasPrefix(after, "?=?"): // which may begin the next one as well
			w.end++
		case strings.HasPrefix(after, "?="):
			w.end += len("?=")
		}
		return w, true
	}
}

// bodyOf returns the body of an encoded word that a text begins with.
func bodyOf(text string) string {
	end := len(text)
	if i := strings.Index(text, "?="); i >= 0 {
		end = i
	}
	for from := 0; from < end; {
		i := strings.Index(text[from:end], "=?")
		if i < 0 {
			break
		}
		if from += i; !strings.HasPrefix(text[from:], "=?=") { // that is padding, and the end
			return text[:from]
		}
		from++
	}
	return text[:end]
}

// decode decodes the words of a text.
func (r wordReading) decode(text string) decoding {
	d := decoding{whole: true}
	var out, run strings.Builder // run: the bytes of adjacent words of one charset
	runCharset := ""
	flush := func() {
		decoded, ok := r.inCharset(runCharset, run.String())
		d.whole = d.whole && ok
		out.WriteString(decoded)
		run.Reset()
	}
	end := 0
	for w, ok := nextWord(text, 0); ok; w, ok = nextWord(text, end) {
		between := text[end:w.start]
		adjacent := end > 0 && strings.TrimSpace(between) == "" && !r.keepBlanks
		if !adjacent || w.charset != runCharset || r.single {
			flush()
		}
		if !adjacent {
			out.WriteString(between)
		}
		if word, known := r.wordBytes(w.encoding, w.body); known {
			runCharset = w.charset
			run.Write(word)
		} else {
			d.whole = false
			flush()
			out.WriteString(text[w.start:w.end])
		}
		end = w.end
	}
	flush()
	out.WriteString(text[end:])
	d.text = out.String()
	return d
}

// wordBytes undoes the encoding of a word.
func (r wordReading) wordBytes(encoding, text string) ([]byte, bool) {
	switch {
	case strings.EqualFold(encoding, "B"):
		return r.base64(text), true
	case strings.EqualFold(encoding, "Q"):
		return quotedBytes(text), true
	}
	return nil, false
}

// base64 decodes what there is, whatever is between.
func (r wordReading) base64(text string) []byte {
	clean := strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/', c == '=' && r.stopAtPadding:
			return c
		case c == '-':
			return '+' // of base64url
		case c == '_':
			return '/'
		}
		return -1
	}, text)
	var out []byte
	for part := range strings.SplitSeq(clean, "=") {
		if len(part)%4 == 1 {
			part = part[:len(part)-1] // six bits make no byte
		}
		b, _ := base64.RawStdEncoding.DecodeString(part)
		out = append(out, b...)
	}
	return out
}

// quotedBytes decodes the Q encoding; what is no code stays.
func quotedBytes(text string) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(text):
			if b, err := hex.DecodeString(text[i+1 : i+3]); err == nil {
				out = append(out, b...)
				i += 2
				continue
			}
			out = append(out, c)
		default:
			out = append(out, c)
		}
	}
	return out
}

// inCharset turns the bytes of words into UTF-8.
func (r wordReading) inCharset(name, text string) (string, bool) {
	if text == "" || r.rawBytes {
		return strings.ToValidUTF8(text, "\uFFFD"), true
	}
	decoder, err := charset.Reader(name, strings.NewReader(text))
	if err != nil {
		return strings.ToValidUTF8(text, "\uFFFD"), false
	}
	decoded, err := io.ReadAll(decoder)
	return strings.ToValidUTF8(string(decoded), "\uFFFD"), err == nil
}

// shownText returns a text as a person sees it: without what is never shown
// (Unicode's Default_Ignorable_Code_Point) and without backslashes, and letters
// that only look different as what they are (NFKC).
func shownText(text string) string {
	ascii := !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
	if ascii && !strings.Contains(text, `\`) {
		return text
	}
	text = strings.Map(func(r rune) rune {
		if r == '\\' || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Cf, unicode.Variation_Selector) {
			return -1
		}
		return r
	}, text)
	return norm.NFKC.String(text)
}

// eachDomain yields the domain after each "@" of a text, blanks around its dots
// left out (RFC 5322 §4.4). It reports whether to go on.
func eachDomain(text string, yield func(string) bool) bool {
	for {
		_, rest, ok := strings.Cut(text, "@")
		if !ok {
			return true
		}
		if d := leadingDomain(rest); d != "" && !yield(d) {
			return false
		}
		text = rest
	}
}

// leadingDomain returns the longest domain that a text begins with.
func leadingDomain(text string) string {
	var b strings.Builder
	dot, blank := true, false // a blank may stand before and after a dot
	for _, r := range text {
		switch {
		case r == '.' || strings.ContainsRune("\u3002\uff0e\uff61", r): // IDNA takes these for dots
			dot = true
		case unicode.IsSpace(r) || unicode.IsControl(r):
			blank = true
			continue
		case r == '-' || r == '_' || r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)):
			if blank && !dot {
				return b.String()
			}
			dot = false
		default:
			return b.String()
		}
		blank = false
		b.WriteRune(r)
	}
	return b.String()
}

// withoutComments leaves out what is in parentheses, which nest. One that is
// not closed is left in: programs differ on where it ends.
func withoutComments(text string) string {
	var b bytes.Buffer
	depth, open := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && depth > 0:
			i++ // a quoted-pair
		case c == '(':
			if depth == 0 {
				open = i
			}
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	if depth > 0 {
		b.WriteString(text[open:])
	}
	return b.String()
}
