package rawheader

import "strings"

// Comment reads the comment at the start of s. Comments nest, and a backslash
// quotes the next byte (RFC 5322 §3.2.2). It returns the text between the
// parentheses, with quoted pairs undone, and the number of bytes with the
// parentheses: 0 if s does not begin with a comment, -1 if it never closes.
func Comment(s string) (text string, n int) {
	if s == "" || s[0] != '(' {
		return "", 0
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return unquote(s[1:i]), i + 1
			}
		}
	}
	return "", -1
}

// QuotedString reads the quoted string at the start of s (RFC 5322 §3.2.4). It
// returns the text between the quotes, with quoted pairs undone, and the number
// of bytes with the quotes: 0 if s does not begin with a quote, -1 if the string
// never closes.
func QuotedString(s string) (text string, n int) {
	if s == "" || s[0] != '"' {
		return "", 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return unquote(s[1:i]), i + 1
		}
	}
	return "", -1
}

// unquote replaces each quoted pair, a backslash and a byte, with the byte (RFC 5322
// §3.2.1).
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}
