package sender

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// maxNested is how often decoded text is decoded again, as some programs do by mistake.
const maxNested = 3

// decodings returns the readings of a text that may have encoded words (RFC 2047): as it
// is, and with the words decoded as some programs do. whole reports whether all words
// could be decoded and nothing in the text may hide other text.
func decodings(text string) (list []string, whole bool) {
	list, whole = []string{text}, utf8.ValidString(text) && !strings.ContainsFunc(text, isHiding)
	for _, way := range []wordReading{{strict: true}, {apart: true}, {stopAtPadding: true}, {rawBytes: true}} {
		before := text
		for n := 0; strings.Contains(before, "=?"); n++ {
			after, ok := way.decode(before)
			if whole = whole && ok; after == before {
				break
			}
			if n == maxNested {
				whole = false
				break
			}
			if !slices.Contains(list, after) {
				list = append(list, after)
			}
			before = after
		}
	}
	return list, whole
}

// A wordReading is a way to read encoded words. All are lenient: a charset may have a
// language (RFC 2231 §5), padding and the end may be missing, words may be long, and they
// may be anywhere, within quotes and addresses too.
type wordReading struct {
	strict        bool // the outcome must be text; other readings may yield rubbish
	apart         bool // each word by itself, with blanks around it, even if a character is split between two
	stopAtPadding bool // base64 ends at "="; else it is skipped
	rawBytes      bool // the charset does not matter
}

// An encodedWord is an encoded word in a text, from start to end.
type encodedWord struct {
	start, end              int
	charset, encoding, body string
}

// nextWord finds the next encoded word from a place on. Its body ends at "?=", where the
// next word begins, or with the text. Without a one-letter encoding it is still a word if
// it names a charset: some program may read it as one.
func nextWord(text string, from int) (w encodedWord, ok bool) {
	for {
		i := strings.Index(text[from:], "=?")
		if i < 0 {
			return w, false
		}
		w.start = from + i
		from = w.start + len("=?")
		name, rest, found := strings.Cut(text[from:], "?")
		if !found {
			return w, false
		}
		if w.encoding, rest, found = strings.Cut(rest, "?"); !found {
			continue
		}
		name, _, _ = strings.Cut(strings.ToLower(name), "*")
		w.charset, w.encoding = strings.TrimSpace(name), strings.TrimSpace(w.encoding)
		if _, known := decoderOf(w.charset); len(w.encoding) != 1 && !known {
			continue
		}
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

// bodyOf returns the body of an encoded word that a text begins with, and looks no further.
func bodyOf(text string) string {
	for i := range len(text) {
		switch rest := text[i:]; {
		case strings.HasPrefix(rest, "?="):
			return text[:i]
		case strings.HasPrefix(rest, "=?") && !strings.HasPrefix(rest, "=?="): // padding, then the end
			return text[:i]
		}
	}
	return text
}

// decode decodes the words of a text. whole reports whether all of them could be decoded.
func (r wordReading) decode(text string) (decoded string, whole bool) {
	whole = true
	var out, run strings.Builder // run: the bytes of adjacent words of one charset
	runCharset := ""
	flush := func() {
		decoded, ok := r.inCharset(runCharset, run.String())
		whole = whole && ok
		out.WriteString(decoded)
		run.Reset()
	}
	end := 0
	for w, ok := nextWord(text, 0); ok; w, ok = nextWord(text, end) {
		between := text[end:w.start]
		adjacent := end > 0 && strings.TrimSpace(between) == "" && !r.apart // RFC 2047 §6.2
		if !adjacent || w.charset != runCharset {
			flush()
		}
		if !adjacent {
			out.WriteString(between)
		}
		if r.apart {
			out.WriteByte(' ')
		}
		if word, known := r.wordBytes(w.encoding, w.body); known {
			runCharset = w.charset
			run.Write(word)
		} else {
			whole = false
			flush()
			out.WriteString(text[w.start:w.end])
		}
		if r.apart {
			flush()
			out.WriteByte(' ')
		}
		end = w.end
	}
	flush()
	out.WriteString(text[end:])
	return out.String(), whole
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

// base64 decodes all base64 characters, whatever is between them.
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

// quotedBytes decodes the Q encoding; other characters stay.
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
func (r wordReading) inCharset(name, text string) (decoded string, ok bool) {
	if text == "" || r.rawBytes {
		return strings.ToValidUTF8(text, "\uFFFD"), true
	}
	decode, known := decoderOf(name)
	if !known {
		return strings.ToValidUTF8(text, "\uFFFD"), false
	}
	decoded = decode(text)
	return decoded, !r.strict || isText(decoded) && decode(text+"A") == decoded+"A" // else it ends within a shift
}

// isText reports whether decoded bytes are what someone wrote.
func isText(decoded string) bool {
	return !strings.ContainsRune(decoded, utf8.RuneError) && !strings.ContainsFunc(decoded, isHiding)
}

// decoderOf returns the decoder of a charset, by its name as browsers read it
// (https://encoding.spec.whatwg.org/#names-and-labels: ISO 8859-1 is Windows-1252), or as
// IANA has it. Charsets in which ASCII bytes mean something else do not count as known:
// few programs have them, and no mail needs them.
func decoderOf(name string) (decode func(string) string, known bool) {
	enc, err := htmlindex.Get(name)
	if err != nil {
		enc, err = ianaindex.MIME.Encoding(name)
	}
	if err != nil || enc == nil {
		return nil, false
	}
	decode = func(text string) string {
		decoded, err := enc.NewDecoder().String(text)
		if err != nil {
			decoded += "\uFFFD"
		}
		return strings.ToValidUTF8(decoded, "\uFFFD")
	}
	return decode, decode("A") == "A"
}
