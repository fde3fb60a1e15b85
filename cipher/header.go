package cipher

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"golang.org/x/text/encoding/charmap"
)

// A HeaderPolicy says what of the header can be read outside. The names are
// those of RFC 9788 §3; no conformance with it is claimed, since the payload
// is exact and holds no protected header.
type HeaderPolicy string

const (
	// HeadersBaseline hides Subject, Comments and Keywords.
	HeadersBaseline HeaderPolicy = "hcp_baseline"
	// HeadersShy hides display names and the time zone of Date as well.
	HeadersShy HeaderPolicy = "hcp_shy"
	// HeadersNoConfidentiality hides nothing of these.
	HeadersNoConfidentiality HeaderPolicy = "hcp_no_confidentiality"
)

// ParseHeaderPolicy reads the name of a policy.
func ParseHeaderPolicy(name string) (HeaderPolicy, error) {
	switch p := HeaderPolicy(name); p {
	case HeadersBaseline, HeadersShy, HeadersNoConfidentiality:
		return p, nil
	}
	return "", fmt.Errorf("%w: header policy %q: must be %s, %s or %s",
		ErrOptions, name, HeadersBaseline, HeadersShy, HeadersNoConfidentiality)
}

// unknownSender stands in From where the message tells no sender. The domain
// is reserved and never resolves (RFC 2606).
const unknownSender = "unknown-sender@qkdmail.invalid"

// Limits of what is copied outside: bytes, since mail systems cut long headers,
// Postfix at 100 KiB; and fields of which any number is allowed, since each takes
// memory.
const (
	maxOuter    = 64 << 10
	maxRepeated = 1000
)

// An outerBuilder makes the fields that stand outside from those of the message.
type outerBuilder struct {
	opts     *EncryptOptions
	single   []rawheader.Field // that RFC 5322 §3.6 allows once: the first of each counts
	repeated []rawheader.Field // of which any number is allowed
	out      [][]byte
	size     int // of out, in bytes
}

func newOuterBuilder(opts *EncryptOptions) *outerBuilder { return &outerBuilder{opts: opts} }

// take takes a field of the message if it may stand outside. That is an allow-list,
// since others say too much (User-Agent, X-…, Thread-Topic), and Bcc and Resent-Bcc
// above all.
func (b *outerBuilder) take(f rawheader.Field) {
	open := b.opts.Headers == HeadersNoConfidentiality
	switch {
	case isOne(f, singleFields), open && f.Is("Subject"):
		if !slices.ContainsFunc(b.single, func(first rawheader.Field) bool { return first.Is(string(f.Name)) }) {
			b.single = append(b.single, f)
		}
	case isOne(f, automaticFields), isList(f), isOne(f, resentFields), open && isOne(f, openFields):
		if len(b.repeated) < maxRepeated {
			b.repeated = append(b.repeated, f)
		}
	}
}

var (
	singleFields    = []string{"From", "Sender", "Reply-To", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "References"}
	automaticFields = []string{"Auto-Submitted", "Precedence"}
	openFields      = []string{"Comments", "Keywords"}
	resentFields    = []string{"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID"}
)

// isOne reports whether a field has one of these names.
func isOne(f rawheader.Field, names []string) bool { return slices.ContainsFunc(names, f.Is) }

// isList reports whether a field is one of a mailing list (RFC 2369, RFC 2919).
func isList(f rawheader.Field) bool {
	const list = "List-"
	return len(f.Name) >= len(list) && strings.EqualFold(string(f.Name[:len(list)]), list)
}

// fields returns the fields that stand outside, each complete with its CRLF.
//
// They are our copies, not the original's: written anew in the plainest form,
// so that no mail system on the way has anything to mend; where that can't be
// done the field is left out, the original being in the payload.
func (b *outerBuilder) fields() [][]byte {
	opts := b.opts
	from := b.copyFirst("From")
	if from == "" {
		first, _, _ := strings.Cut(strings.ReplaceAll(opts.From, "\r", "\n"), "\n")
		if from = formatAddress(first, opts); from == "" {
			from = unknownSender
		}
		b.add("From", from)
	}
	for _, name := range []string{"Sender", "Reply-To", "To", "Cc"} {
		b.copyFirst(name)
	}
	if b.copyFirst("Date") == "" {
		b.add("Date", opts.Time.UTC().Format(dateLayout))
	}
	if b.copyFirst("Message-ID") == "" {
		b.add("Message-ID", newMessageID(from))
	}
	b.copyFirst("In-Reply-To")
	b.copyFirst("References")

	open := opts.Headers == HeadersNoConfidentiality
	if open {
		b.copyFirst("Subject")
	} else {
		b.add("Subject", "[...]") // RFC 9788 §3.2.1; also where there is none
	}
	b.copyAll(func(f rawheader.Field) bool { return !isOne(f, resentFields) })
	// Last, since any number of them is allowed, and then above the others,
	// in their own order, which groups them (RFC 5322 §3.6.6).
	own := b.out
	b.out = nil
	b.copyAll(func(f rawheader.Field) bool { return isOne(f, resentFields) })
	return append(b.out, own...)
}

// copyAll copies the repeated fields that are wanted.
func (b *outerBuilder) copyAll(wanted func(rawheader.Field) bool) {
	for _, f := range b.repeated {
		if wanted(f) {
			b.add(string(f.Name), b.format(f))
		}
	}
}

// copyFirst copies the field with this name, which is a single one, and returns its
// value, "" where there is none or it was left out.
func (b *outerBuilder) copyFirst(name string) string {
	for _, f := range b.single {
		if f.Is(name) {
			if value := b.format(f); b.add(name, value) {
				return value
			}
			return ""
		}
	}
	return ""
}

// add appends a field, folded, unless it is empty or too long.
func (b *outerBuilder) add(name, value string) bool {
	if value == "" {
		return false
	}
	raw, ok := fold(name, value)
	if !ok || b.size+len(raw) > maxOuter {
		return false
	}
	b.out = append(b.out, raw)
	b.size += len(raw)
	return true
}

// format returns the value of a field in its plainest form, "" where that
// can't be done.
func (b *outerBuilder) format(f rawheader.Field) string {
	value := unfold(f)
	if len(value) > maxOuter {
		return ""
	}
	name := strings.ToLower(string(f.Name))
	switch name {
	case "sender", "resent-sender":
		return formatAddress(value, b.opts)
	case "from", "reply-to", "resent-from":
		return formatAddresses(value, b.opts)
	case "to", "cc", "resent-to", "resent-cc":
		return formatRecipients(value, b.opts)
	}
	text := strings.Map(controlToBlank, toUTF8(value))
	switch name {
	case "date", "resent-date":
		return formatDate(text, b.opts.Headers)
	case "message-id", "resent-message-id":
		return formatID(text)
	case "in-reply-to", "references":
		return formatIDs(text)
	case "list-id":
		return formatListID(text)
	default:
		return formatText(text)
	}
}

// unfold returns the value of a field on one line. CRs that end no line stay as
// one, or they would join what they separate.
func unfold(f rawheader.Field) string {
	value := bytes.Trim(f.Value, " \t\r\n")
	end := bytes.IndexAny(value, "\r\n")
	if end < 0 {
		return string(value)
	}
	text := make([]byte, 0, len(value))
	for ; end >= 0; end = bytes.IndexAny(value, "\r\n") {
		text = append(text, value[:end]...)
		value = bytes.TrimLeft(value[end:], "\r\n")
		if value[0] != ' ' && value[0] != '\t' {
			text = append(text, '\r')
		}
	}
	return string(append(text, value...))
}

// toUTF8 returns text in UTF-8. Most raw 8-bit text that is not UTF-8 is
// Latin-1 or near to it.
func toUTF8(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	text, _ = charmap.ISO8859_1.NewDecoder().String(text) // never fails
	return text
}

func controlToBlank(r rune) rune {
	if r < ' ' || r == 0x7F {
		return ' '
	}
	return r
}

// formatText returns unstructured text in US-ASCII.
func formatText(text string) string {
	if mayBeEncoded(text) {
		// Decoded and encoded again, since encoded words are often broken.
		decoded, err := (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(text)
		if err != nil || mayBeEncoded(decoded) {
			return ""
		}
		text = strings.ToValidUTF8(decoded, "\uFFFD")
	}
	return mime.QEncoding.Encode("utf-8", strings.Join(strings.Fields(text), " "))
}

// formatID returns a message ID, if text is one and nothing else, as RFC 5322
// §3.6.4 has it without its obsolete forms.
func formatID(text string) string {
	inner, ok := strings.CutPrefix(text, "<")
	inner, closed := strings.CutSuffix(inner, ">")
	left, right, _ := strings.Cut(inner, "@")
	if !ok || !closed || !isDotAtom(left) || !isDotAtom(right) && !isDomainLiteral(right) || !fitsLine(text) {
		return ""
	}
	return text
}

// isDotAtom reports whether s is a dot-atom-text, RFC 5322 §3.2.3.
func isDotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`()<>[]:;@\,"`, r)
		}) {
			return false
		}
	}
	return true
}

// isDomainLiteral reports whether s is a no-fold-literal, RFC 5322 §3.6.4.
func isDomainLiteral(s string) bool {
	return len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' &&
		!strings.ContainsFunc(s[1:len(s)-1], func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`[]\`, r) })
}

// maxIDs is the most octets of message IDs in References.
const maxIDs = 8 << 10

// formatIDs returns the message IDs in text and nothing else: a phrase there
// often quotes the date or subject of another message. Where there are too
// many the first and the last ones stay, as RFC 5322 §3.6.4 has threading in
// mind.
func formatIDs(text string) string {
	var ids []string
	for text != "" {
		var id string
		var ok bool
		_, text, _ = strings.Cut(text, "<")
		if id, text, ok = strings.Cut(text, ">"); ok && isLooseID(id) && fitsLine("<"+id+">") {
			ids = append(ids, "<"+id+">")
		}
	}
	cut := 1
	for size := len(strings.Join(ids, " ")); size > maxIDs && cut < len(ids); cut++ {
		size -= len(ids[cut]) + 1
	}
	if cut > 1 {
		ids = append(ids[:1], ids[cut:]...)
	}
	return strings.Join(ids, " ")
}

// formatListID returns a phrase and an ID in angle brackets (RFC 2919 §3), of
// which only the phrase may be in encoded words.
func formatListID(text string) string {
	i := strings.LastIndexByte(text, '<')
	if i < 0 {
		return formatText(text)
	}
	id := text[i:]
	if mayBeEncoded(id) || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return strings.TrimSpace(formatText(text[:i]) + " " + id)
}

// isLooseID reports whether s can stand in angle brackets as a message ID.
// Threading needs those as they are that others made, in whatever form.
func isLooseID(s string) bool {
	return len(s) <= 900 && strings.Contains(s, "@") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' })
}

// newMessageID makes a message ID in the domain of the last of some addresses,
// which are formatted.
func newMessageID(from string) string {
	domain := strings.TrimSuffix(from[strings.LastIndexByte(from, '@')+1:], ">")
	if formatID("<x@"+domain+">") == "" {
		domain = "qkdmail.invalid"
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return "<" + hex.EncodeToString(random[:]) + "@" + domain + ">"
}

// Lines of a header, without CRLF.
const (
	preferredLine = 78  // RFC 5322 §2.1.1
	longestLine   = 998 // RFC 5322 §2.1.1
	encodedLine   = 76  // with an encoded word in it: RFC 2047 §2
)

// mayBeEncoded reports whether s holds what may be taken for an encoded word.
func mayBeEncoded(s string) bool { return strings.Contains(s, "=?") }

// fold writes a field in lines of up to 78 bytes where blanks allow it, and of
// up to 76 where there is an encoded word. It fails where a line would be over
// 998, or over 76 with an encoded word.
func fold(name, value string) (raw []byte, ok bool) {
	raw = append(make([]byte, 0, len(name)+len(value)+16), name...)
	raw = append(raw, ':')
	line, encoded := len(raw), mayBeEncoded(name)
	for word := range strings.SplitSeq(value, " ") {
		wordEncoded := mayBeEncoded(word)
		// A line with nothing but the name is for encoded words only.
		mayFold := word != "" && (line > len(name)+1 || wordEncoded)
		if mayFold && line+1+len(word) > lineLimit(encoded || wordEncoded, preferredLine) {
			raw = append(raw, "\r\n"...)
			line, encoded = 0, false
		}
		raw = append(raw, ' ')
		raw = append(raw, word...)
		line += 1 + len(word)
		encoded = encoded || wordEncoded
		if line > lineLimit(encoded, longestLine) {
			return nil, false
		}
	}
	return append(raw, "\r\n"...), true
}

// fitsLine reports whether a word without blanks can stand in a header.
func fitsLine(word string) bool {
	return 1+len(word) <= lineLimit(mayBeEncoded(word), longestLine)
}

func lineLimit(encoded bool, otherwise int) int {
	if encoded {
		return encodedLine
	}
	return otherwise
}
