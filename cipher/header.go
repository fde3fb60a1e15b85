package cipher

import (
	"bytes"
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"golang.org/x/text/encoding/charmap"
)

// A HeaderPolicy says how much of a message's header is visible in the outer header.
// The names come from RFC 9788 §3, but no conformance is claimed: the payload is exact
// and has no protected header.
type HeaderPolicy string

const (
	// HeadersBaseline hides Subject, Comments and Keywords.
	HeadersBaseline HeaderPolicy = "hcp_baseline"
	// HeadersShy also hides display names and the time zone of Date.
	HeadersShy HeaderPolicy = "hcp_shy"
	// HeadersNoConfidentiality hides none of these.
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

// unknownSender is the outer From if no sender is known. Its domain is reserved
// and never resolves (RFC 2606).
const unknownSender = "unknown-sender@qkdmail.invalid"

// Limits of the outer header.
const (
	maxOuter    = 64 << 10 // bytes: mail systems cut long headers, Postfix at 100 KiB
	maxRepeated = 1000     // fields that may occur any number of times: each takes memory
)

// An outerHeader takes the fields of a message and builds the outer header.
type outerHeader struct {
	opts     *EncryptOptions
	single   []rawheader.Field // fields that RFC 5322 §3.6 allows once: the first with each name
	repeated []rawheader.Field // fields that may occur any number of times
	out      [][]byte
	size     int // of out, in bytes
}

func newOuterHeader(opts *EncryptOptions) *outerHeader { return &outerHeader{opts: opts} }

// take takes a field of the message if the outer header may have it. This is an
// allow-list: other fields reveal too much (User-Agent, X-…, Thread-Topic), above all
// Bcc and Resent-Bcc.
func (h *outerHeader) take(f rawheader.Field) {
	open := h.opts.Headers == HeadersNoConfidentiality
	switch {
	case isOne(f, singleFields), open && f.Is("Subject"):
		if !slices.ContainsFunc(h.single, func(first rawheader.Field) bool { return first.Is(string(f.Name)) }) {
			h.single = append(h.single, f)
		}
	case isOne(f, automaticFields), isList(f), isOne(f, resentFields), open && isOne(f, openFields):
		if len(h.repeated) < maxRepeated {
			h.repeated = append(h.repeated, f)
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

// isList reports whether a field is a mailing list's (RFC 2369, RFC 2919).
func isList(f rawheader.Field) bool {
	const list = "List-"
	return len(f.Name) >= len(list) && strings.EqualFold(string(f.Name[:len(list)]), list)
}

// build returns the fields of the outer header, each with its CRLF.
//
// They are copies, rewritten in the plainest form, so that no mail system on the way
// has anything to mend. A field that can't be written in this form is left out: the
// original is in the payload.
func (h *outerHeader) build() [][]byte {
	opts := h.opts
	from := h.copyFirst("From")
	if from == "" {
		first, _, _ := strings.Cut(strings.ReplaceAll(opts.From, "\r", "\n"), "\n")
		if from = formatAddress(first, opts); from == "" {
			from = unknownSender
		}
		h.add("From", from)
	}
	for _, name := range []string{"Sender", "Reply-To", "To", "Cc"} {
		h.copyFirst(name)
	}
	if h.copyFirst("Date") == "" {
		h.add("Date", opts.Time.UTC().Format(dateLayout))
	}
	if h.copyFirst("Message-ID") == "" {
		h.add("Message-ID", newMessageID(from))
	}
	h.copyFirst("In-Reply-To")
	h.copyFirst("References")

	open := opts.Headers == HeadersNoConfidentiality
	if open {
		h.copyFirst("Subject")
	} else {
		h.add("Subject", "[...]") // RFC 9788 §3.2.1; even if the message has none
	}
	h.copyAll(func(f rawheader.Field) bool { return !isOne(f, resentFields) })
	// Resent fields get only the space that is left, since there may be any number of
	// them. But they go above the others, and in their own order, which groups them
	// (RFC 5322 §3.6.6).
	own := h.out
	h.out = nil
	h.copyAll(func(f rawheader.Field) bool { return isOne(f, resentFields) })
	return append(h.out, own...)
}

// copyAll copies the repeated fields that are wanted.
func (h *outerHeader) copyAll(wanted func(rawheader.Field) bool) {
	for _, f := range h.repeated {
		if wanted(f) {
			h.add(string(f.Name), h.format(f))
		}
	}
}

// copyFirst copies the single field with this name and returns its value, or "" if it
// is missing or left out.
func (h *outerHeader) copyFirst(name string) string {
	for _, f := range h.single {
		if f.Is(name) {
			if value := h.format(f); h.add(name, value) {
				return value
			}
			return ""
		}
	}
	return ""
}

// add appends a folded field, unless it is empty or too long.
func (h *outerHeader) add(name, value string) bool {
	if value == "" {
		return false
	}
	raw, ok := fold(name, value)
	if !ok || h.size+len(raw) > maxOuter {
		return false
	}
	h.out = append(h.out, raw)
	h.size += len(raw)
	return true
}

// format returns the value of a field in its plainest form, or "" if it has
// none.
func (h *outerHeader) format(f rawheader.Field) string {
	value := unfold(f)
	if len(value) > maxOuter {
		return ""
	}
	name := strings.ToLower(string(f.Name))
	switch name {
	case "sender", "resent-sender":
		return formatAddress(value, h.opts)
	case "from", "reply-to", "resent-from":
		return formatAddresses(value, h.opts)
	case "to", "cc", "resent-to", "resent-cc":
		return formatRecipients(value, h.opts)
	}
	text := strings.Map(controlToBlank, toUTF8(value))
	switch name {
	case "date", "resent-date":
		return formatDate(text, h.opts.Headers)
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

// unfold returns the value of a field on one line. CRs that do not end a line become
// one CR, so that what they separate is not joined.
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

// toUTF8 returns text in UTF-8. Most raw 8-bit text that is not UTF-8 is Latin-1
// or close to it.
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
		// Encoded words are often broken, so they are decoded and encoded again.
		decoded, err := (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(text)
		if err != nil || mayBeEncoded(decoded) {
			return ""
		}
		text = strings.ToValidUTF8(decoded, "\uFFFD")
	}
	return mime.QEncoding.Encode("utf-8", strings.Join(strings.Fields(text), " "))
}

// formatListID returns a phrase and a list ID in angle brackets (RFC 2919 §3).
// Only the phrase may have encoded words.
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

// usesCRLF reports whether the first line of b ends with CRLF.
func usesCRLF(b []byte) bool {
	i := bytes.IndexByte(b, '\n')
	return i > 0 && b[i-1] == '\r'
}
