package rawheader

import "strings"

// CommentLen returns how many bytes the comment at the start of s takes, with
// its parentheses. Comments nest, and a backslash quotes the next byte (RFC
// 5322 §3.2.2). It returns 0 if s does not begin with a comment, and -1 if the
// comment never closes.
func CommentLen(s string) int {
	if s == "" || s[0] != '(' {
		return 0
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
				return i + 1
			}
		}
	}
	return -1
}

// QuotedLen returns how many bytes the quoted string at the start of s takes,
// with its quotes (RFC 5322 §3.2.4). It returns 0 if s does not begin with a
// quote, and -1 if the string never closes.
func QuotedLen(s string) int {
	if s == "" || s[0] != '"' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// Unquote removes the first and the last byte of s, a quoted string or a
// comment, and undoes quoted pairs: of a backslash and the byte behind it the
// byte stays (RFC 5322 §3.2.1).
func Unquote(s string) string {
	s = s[1 : len(s)-1]
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
