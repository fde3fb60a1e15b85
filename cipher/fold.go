package cipher

import "strings"

// Lengths of header lines in bytes, without CRLF.
const (
	preferredLine = 78  // RFC 5322 §2.1.1
	longestLine   = 998 // RFC 5322 §2.1.1
	encodedLine   = 76  // for a line with an encoded word: RFC 2047 §2
)

// mayBeEncoded reports whether s contains what may be read as an encoded word.
func mayBeEncoded(s string) bool { return strings.Contains(s, "=?") }

// fold returns a field in lines of at most 78 bytes, or 76 with an encoded word,
// as far as its blanks allow. It fails if a line would be longer than 998 bytes,
// or 76 with an encoded word.
func fold(name, value string) (raw []byte, ok bool) {
	raw = append(make([]byte, 0, len(name)+len(value)+16), name...)
	raw = append(raw, ':')
	line, encoded := len(raw), mayBeEncoded(name)
	for word := range strings.SplitSeq(value, " ") {
		wordEncoded := mayBeEncoded(word)
		// Only encoded words need a line with nothing but the name before them.
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

// fitsLine reports whether a word without blanks fits in a header line.
func fitsLine(word string) bool {
	return 1+len(word) <= lineLimit(mayBeEncoded(word), longestLine)
}

func lineLimit(encoded bool, otherwise int) int {
	if encoded {
		return encodedLine
	}
	return otherwise
}
