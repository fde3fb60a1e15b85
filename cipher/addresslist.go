package cipher

import (
	"net/mail"
	"strings"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// parseAddresses reads the value of an address field item by item. It returns the
// addresses that it understands, and whether the field has only empty groups.
//
// An item is a whole address or none, since part of an address is someone else's
// address. An item that is not understood does not spoil the others. But a bracket,
// quote or comment that never closes ends the list: mail programs disagree on what
// follows it.
func parseAddresses(text string) (list []*mail.Address, emptyGroups bool) {
	groups, members, inGroup := false, false, false
	for text != "" {
		item, separator, rest, ok := cutAddress(text, inGroup)
		if !ok {
			return list, false
		}
		text = rest
		switch {
		case separator == ':': // after the name of a group
			groups, inGroup = true, true
			continue
		case separator == ';':
			inGroup = false
		}
		if item.blank {
			continue
		}
		members = true
		if a := item.address(); a != nil {
			list = append(list, a)
		}
	}
	return list, groups && !members
}

// An addressItem is the text between two separators of an address list.
type addressItem struct {
	text     string
	blank    bool // it has only blanks and comments
	brackets int  // number of opening angle brackets
	lt, gt   int  // positions of the outermost brackets
}

// cutAddress cuts off the first item of a list. Separators are the comma, the semicolon
// (which ends a group or, from Outlook, an item), and the colon after the name of a
// group. It fails if something opens and never closes.
func cutAddress(s string, inGroup bool) (item addressItem, separator byte, rest string, ok bool) {
	var last byte // outside of blanks and comments
	depth, at := 0, false
	for i := 0; i < len(s); {
		n := addressTokenLen(s[i:], last)
		if n < 0 {
			return item, 0, "", false
		}
		switch c := s[i]; {
		case c == '<':
			if depth++; depth == 1 {
				item.lt = i
			}
			item.brackets++
		case c == '>' && depth > 0:
			if depth--; depth == 0 {
				item.gt = i
			}
		case depth > 0:
			// A comma or colon in brackets belongs to a source route.
		case c == ',', c == ';', c == ':' && !inGroup && last != 0 && !at && item.brackets == 0:
			item.text, item.blank = s[:i], last == 0
			return item, c, s[i+1:], true
		case c == '@':
			at = true
		}
		if c := s[i]; c != ' ' && c != '\t' && c != '(' {
			last = c
		}
		i += n
	}
	item.text, item.blank = s, last == 0
	return item, 0, "", depth == 0
}

// addressTokenLen returns the number of bytes of the token at the start of s: a
// comment, quoted string, domain literal, encoded word, quoted pair or single
// byte. It returns -1 if the token never closes. last is the byte before it,
// blanks and comments aside.
func addressTokenLen(s string, last byte) int {
	switch {
	case s[0] == '(':
		_, n := rawheader.Comment(s)
		return n
	case s[0] == '"':
		_, n := rawheader.QuotedString(s)
		return n
	case s[0] == '[' && last == '@':
		return domainLiteralLen(s)
	case strings.HasPrefix(s, "=?"):
		return encodedWordLen(s)
	case s[0] == '\\' && len(s) > 1:
		// A quoted pair is not allowed here, and programs read it in two ways. So the
		// quoted byte separates nothing, and must not open or close anything.
		if strings.IndexByte(`"(<>[`, s[1]) >= 0 {
			return -1
		}
		return 2
	}
	return 1
}

// encodedWordLen returns the number of bytes of the encoded word at the start of
// s (RFC 2047 §2). Some programs write commas, colons and at signs into encoded
// words, where they are text and separate nothing. It returns 1 if there is no
// encoded word or it needs no such care, and -1 if it has separators and its end
// is in doubt.
func encodedWordLen(s string) int {
	parts := strings.SplitN(s, "?", 4) // "=", charset, encoding, text and what follows
	if len(parts) < 4 || len(parts[2]) != 1 || strings.ContainsAny(parts[1]+parts[2], " \t\"(),:;<>@") {
		return 1
	}
	body, rest, closed := strings.Cut(parts[3], "?=")
	if blank := strings.IndexAny(body, " \t"); blank >= 0 {
		body, closed = body[:blank], false
	}
	switch separates, quotes := strings.ContainsAny(body, ",;:@"), strings.ContainsAny(body, `"()<>[]\`); {
	case closed && !quotes:
		return len(s) - len(rest)
	case separates:
		return -1
	}
	return 1
}

// domainLiteralLen returns the number of bytes of the domain literal at the start of s,
// or -1 if it never closes. It also returns -1 if a bracket, quote or comment opens
// inside: programs that don't know domain literals read on from there.
func domainLiteralLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i+1 < len(s) && s[i+1] == ']' {
				i++
			}
		case ']':
			return i + 1
		case '[', '"', '(', '<':
			return -1
		}
	}
	return -1
}

// address returns the address of an item, a mailbox of RFC 5322 §3.4 or of the
// obsolete forms of §4.4, or nil if it is not understood. A name that is not
// understood is left out.
func (item addressItem) address() *mail.Address {
	switch item.brackets {
	case 0:
		spec, rest, ok := cutAddrSpec(item.text)
		if ok && skipCFWS(rest) == "" {
			return &mail.Address{Name: commentName(rest), Address: spec}
		}
	case 1:
		inside, routed := cutRoute(item.text[item.lt+1 : item.gt])
		spec, rest, ok := cutAddrSpec(inside)
		if ok && routed && skipCFWS(rest) == "" && skipCFWS(item.text[item.gt+1:]) == "" {
			return &mail.Address{Name: phraseName(item.text[:item.lt]), Address: spec}
		}
	}
	return nil
}

// skipCFWS returns s without the comments and blanks at its start.
func skipCFWS(s string) string {
	for {
		s = strings.TrimLeft(s, " \t")
		_, n := rawheader.Comment(s)
		if n <= 0 {
			return s
		}
		s = s[n:]
	}
}

// cutRoute removes the source route before an address (RFC 5322 §4.4). It fails
// if the route is malformed.
func cutRoute(s string) (rest string, ok bool) {
	if s = skipCFWS(s); !strings.HasPrefix(s, "@") {
		return s, true
	}
	for {
		if domain, ok := strings.CutPrefix(s, "@"); ok {
			if _, s, ok = cutDomain(domain); !ok {
				return "", false
			}
		}
		s = skipCFWS(s)
		if spec, ok := strings.CutPrefix(s, ":"); ok {
			return spec, true
		}
		if s, ok = strings.CutPrefix(s, ","); !ok {
			return "", false
		}
		s = skipCFWS(s)
	}
}

// cutAddrSpec cuts off an address without a name, and removes comments and blanks
// from it.
func cutAddrSpec(s string) (spec, rest string, ok bool) {
	local, rest, ok := cutWords(s, true)
	rest, at := strings.CutPrefix(skipCFWS(rest), "@")
	if !ok || !at || local == "" {
		return "", "", false
	}
	domain, rest, ok := cutDomain(rest)
	return local + "@" + domain, rest, ok
}

// cutDomain cuts off a domain. It takes only SMTP's domain literals (RFC 5321 §4.1.3):
// others have characters that some programs take for separators.
func cutDomain(s string) (domain, rest string, ok bool) {
	s = skipCFWS(s)
	if !strings.HasPrefix(s, "[") {
		return cutWords(s, false)
	}
	n := domainLiteralLen(s)
	if n < 0 {
		return "", "", false
	}
	inner := strings.Trim(s[1:n-1], " \t")
	return "[" + inner + "]", s[n:], inner != "" && !strings.ContainsFunc(inner, func(r rune) bool {
		return !isLetterOrDigit(r) && r != '.' && r != ':' && r != '-'
	})
}

func isLetterOrDigit(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// cutWords cuts off words with dots between them, and removes the comments and blanks
// around the dots (RFC 5322 §4.4). A word is an atom or, if quoted is set, a quoted
// string, whose content it returns.
func cutWords(s string, quoted bool) (words, rest string, ok bool) {
	for {
		s = skipCFWS(s)
		word, n := "", 0
		if quoted && strings.HasPrefix(s, `"`) {
			word, n = rawheader.QuotedString(s)
		} else {
			n = atomLen(s)
			word = s[:n]
		}
		if n <= 0 || len(words) > maxAddress {
			return "", "", false
		}
		words, rest = words+word, s[n:]
		if s = skipCFWS(rest); !strings.HasPrefix(s, ".") {
			return words, rest, true
		}
		words, s = words+".", s[1:]
	}
}

// atomLen returns the number of bytes of the atom at the start of s (RFC 5322
// §3.2.3, RFC 6532 §3.2).
func atomLen(s string) int {
	n := 0
	for n < len(s) && s[n] > ' ' && s[n] != 0x7F && strings.IndexByte(`()<>[]:;@\,."`, s[n]) < 0 {
		n++
	}
	return n
}
