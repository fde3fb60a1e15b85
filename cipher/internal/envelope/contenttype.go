package envelope

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// A contentType is what a Reader needs from a Content-Type field.
type contentType struct {
	media    string // in lower case
	boundary string // multipart only
	protocol string // multipart only
}

// readContentType reads a Content-Type. It is text/plain if the field is missing
// or has no valid media type (RFC 2045 §5.2).
//
// Mail systems rewrite the field, and break it, but a qkdmail message must still be
// found. So every field can be read: what is not a parameter is skipped, a value
// without quotes ends at a blank or semicolon, and a value whose quote never closes
// ends at a semicolon, which no boundary has. If that finds no boundary, the field is
// read again without comments and with simpler quotes. mime.ParseMediaType gives up at
// the first broken parameter, and knows no comments.
func readContentType(text string) contentType {
	if text == "" {
		return contentType{media: "text/plain"}
	}
	r := paramReader{rest: text}
	media := r.token("/;,")
	if r.skip(); strings.HasPrefix(r.rest, "/") {
		r.rest = r.rest[1:]
		media += "/" + r.token(";,")
	}
	if strings.ContainsFunc(media, func(r rune) bool { return r > '~' }) {
		return contentType{media: "text/plain"} // or "K", the Kelvin sign, would become "k"
	}
	t := contentType{media: strings.ToLower(media)}
	if !strings.HasPrefix(t.media, "multipart/") {
		return t
	}
	p := r.params()
	if t.boundary = p.value("boundary"); t.boundary == "" {
		// A quote that never closes may have taken the boundary's for its end.
		r.noComments, r.noQuotes = true, true
		p = r.params()
		t.boundary = p.value("boundary")
	}
	t.protocol = p.value("protocol")
	return t
}

// readEncoding returns a Content-Transfer-Encoding in lower case.
func readEncoding(text string) string {
	r := paramReader{rest: text}
	return strings.ToLower(r.value())
}

// A paramReader reads parameters from left to right, and reads each byte only a few
// times.
type paramReader struct {
	rest string
	// An opening byte that is never closed is an ordinary byte, and so are all later
	// ones of its kind.
	noComments, noQuotes bool
}

// skip skips blanks, control characters and comments.
func (r *paramReader) skip() {
	for {
		r.rest = strings.TrimLeftFunc(r.rest, isBlank)
		n := r.commentLen(r.rest)
		if n == 0 {
			return
		}
		r.rest = r.rest[n:]
	}
}

func isBlank(r rune) bool { return r <= ' ' }

// commentLen returns the number of bytes of the comment at the start of s, or 0
// if there is none or it never closes.
func (r *paramReader) commentLen(s string) int {
	if r.noComments {
		return 0
	}
	_, n := rawheader.Comment(s)
	if n < 0 {
		r.noComments, n = true, 0
	}
	return n
}

// token skips to the next token and returns it. A token ends at a blank, a comment
// or one of the bytes in ends.
func (r *paramReader) token(ends string) string {
	r.skip()
	n := 0
	for n < len(r.rest) && r.rest[n] > ' ' && strings.IndexByte(ends, r.rest[n]) < 0 {
		if r.rest[n] == '(' && r.commentLen(r.rest[n:]) > 0 {
			break
		}
		n++
	}
	token := r.rest[:n]
	r.rest = r.rest[n:]
	return token
}

// value skips to the next value and returns it.
func (r *paramReader) value() string {
	r.skip()
	if !strings.HasPrefix(r.rest, `"`) {
		return r.token(";")
	}
	if !r.noQuotes {
		if text, n := rawheader.QuotedString(r.rest); n > 0 {
			r.rest = r.rest[n:]
			return text
		}
		r.noQuotes = true
	}
	value, rest := r.rest[1:], ""
	if end := strings.IndexAny(value, `";`); end >= 0 {
		value, rest = value[:end], value[end:]
	}
	r.rest = strings.TrimPrefix(rest, `"`)
	return strings.TrimRightFunc(value, isBlank)
}

// params reads all parameters that are left.
func (r paramReader) params() params {
	p := make(params)
	for name, value, ok := r.next(); ok; name, value, ok = r.next() {
		p.add(strings.ToLower(name), value)
	}
	return p
}

// next returns the next parameter that has a name and a value.
func (r *paramReader) next() (name, value string, ok bool) {
	for {
		for r.skip(); r.rest != "" && (r.rest[0] == ';' || r.rest[0] == ','); r.skip() {
			r.rest = r.rest[1:]
		}
		if r.rest == "" {
			return "", "", false
		}
		if r.rest[0] == '"' {
			r.value() // skip what is quoted
			continue
		}
		name = r.token(`=;"`)
		if r.skip(); !strings.HasPrefix(r.rest, "=") {
			continue
		}
		r.rest = r.rest[1:]
		if value = r.value(); name != "" && value != "" {
			return name, value, true
		}
	}
}

// params are the parameters boundary and protocol, in all forms of RFC 2231, by
// name in lower case.
type params map[string]string

// maxSections is how many pieces of a value are joined. Each has at least one
// byte, and no longer value is needed.
const maxSections = maxBoundary

// add keeps the first value of a parameter, as most programs do.
func (p params) add(name, value string) {
	base, _, _ := strings.Cut(name, "*")
	if _, known := p[name]; known || base != "boundary" && base != "protocol" || len(p) > 4*maxSections {
		return
	}
	p[name] = value
}

// value returns the value of a parameter. Of several forms, it prefers the one with a
// character set, then the one in pieces, as mime.ParseMediaType does.
func (p params) value(name string) string {
	if v := extended(p[name+"*"]); v != "" {
		return v
	}
	var whole strings.Builder
	for n := range maxSections {
		piece := p.section(name, n)
		if piece == "" {
			break
		}
		whole.WriteString(piece)
	}
	if whole.Len() > 0 {
		return whole.String()
	}
	return p[name]
}

// section returns piece n of a value (RFC 2231 §3 and §4.1).
func (p params) section(name string, n int) string {
	name += "*" + strconv.Itoa(n)
	if v, ok := p[name]; ok {
		return v
	}
	if n == 0 {
		return extended(p[name+"*"])
	}
	return unescape(p[name+"*"])
}

// extended returns a value without its character set and language (RFC 2231 §4).
// The character set does not matter: boundaries and protocols are US-ASCII.
func extended(v string) string {
	if _, rest, ok := strings.Cut(v, "'"); ok {
		if _, text, ok := strings.Cut(rest, "'"); ok {
			v = text
		}
	}
	return unescape(v)
}

// unescape undoes percent-encoding. It leaves a percent sign alone that two hexadecimal
// digits do not follow.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "%")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if c, err := hex.DecodeString(after[:min(2, len(after))]); err == nil && len(c) == 1 {
			b.Write(c)
			after = after[2:]
		} else {
			b.WriteByte('%')
		}
		s = after
	}
}
