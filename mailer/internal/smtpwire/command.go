package smtpwire

import (
	"errors"
	"strings"
)

// MaxCommand is the longest command line in bytes, with its line end. RFC 5321 §4.5.3.1.4
// has 512, and extensions add to that.
const MaxCommand = 2048

// Command splits a command line into its verb, in upper case, and its argument.
// The line end, and blanks around both, do not count (RFC 5321 §4.1.1).
func Command(line string) (verb, arg string) {
	line = strings.TrimRight(line, " \t\r\n")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		line, arg = line[:i], strings.TrimLeft(line[i:], " \t")
	}
	return strings.ToUpper(line), arg
}

// ErrPath: no path can be read.
var ErrPath = errors.New("not a path")

// Path reads the path that follows keyword, which is "FROM:" or "TO:", in the
// argument of MAIL or RCPT. It returns the mailbox as go-smtp has it, without source
// route and without the quotes of its local part, "" for the null path, and the
// parameters. Only "<postmaster>" may lack a domain (RFC 5321 §4.1.1.3).
//
// A path without its angle brackets, and blanks before it, are tolerated.
func Path(arg, keyword string) (mailbox, params string, err error) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", "", ErrPath
	}
	rest := strings.TrimLeft(arg[len(keyword):], " \t")
	rest, bracket := strings.CutPrefix(rest, "<")
	if bracket {
		if after, null := strings.CutPrefix(rest, ">"); null {
			return "", after, endOfPath(after)
		}
		if rest, err = skipRoute(rest); err != nil {
			return "", "", err
		}
	}
	if mailbox, rest, err = readMailbox(rest); err != nil {
		return "", "", err
	}
	if bracket {
		var closed bool
		if rest, closed = strings.CutPrefix(rest, ">"); !closed {
			return "", "", ErrPath
		}
	}
	return mailbox, rest, endOfPath(rest)
}

// endOfPath returns an error if what follows a path is no parameter.
func endOfPath(rest string) error {
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return ErrPath
	}
	return nil
}

// skipRoute drops a source route, which RFC 5321 §4.1.1.3 has servers ignore.
func skipRoute(s string) (rest string, err error) {
	if !strings.HasPrefix(s, "@") {
		return s, nil
	}
	route, rest, ok := strings.Cut(s, ":")
	if !ok || strings.ContainsAny(route, "<>\"[] \t") {
		return "", ErrPath
	}
	return rest, nil
}

func readMailbox(s string) (mailbox, rest string, err error) {
	local, rest, err := readLocal(s)
	if err != nil {
		return "", "", err
	}
	after, at := strings.CutPrefix(rest, "@")
	switch {
	case !at && strings.EqualFold(local, "postmaster"):
		return local, rest, nil
	case !at:
		return "", "", ErrPath
	}
	n := strings.IndexAny(after, "<> \t\"@")
	if n < 0 {
		n = len(after)
	}
	if n == 0 {
		return "", "", ErrPath
	}
	return local + "@" + after[:n], after[n:], nil
}

// readLocal reads a local part, a quoted one without its quotes. Sloppy ones are accepted
// if they have only one reading: RFC 5321 §4.1.2 leaves them to the server of the domain.
func readLocal(s string) (local, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		n := strings.IndexAny(s, "@>()<[]:;\\,\" \t")
		if n < 0 {
			n = len(s)
		}
		if n == 0 {
			return "", "", ErrPath
		}
		return s[:n], s[n:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			if i++; i == len(s) {
				return "", "", ErrPath
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", ErrPath
}

// Mailbox writes a mailbox, as [Path] returns it, for a command: a local part that is not
// a dot-string is in quotes (RFC 5321 §4.1.2).
func Mailbox(mailbox string) string {
	local, domain := SplitMailbox(mailbox)
	if mailbox == "" || isDotString(local) {
		return mailbox
	}
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	return quoted + "@" + domain
}

// SplitMailbox splits a mailbox as [Path] returns it. The domain is "" where
// there is none.
func SplitMailbox(mailbox string) (local, domain string) {
	if i := strings.LastIndexByte(mailbox, '@'); i >= 0 {
		return mailbox[:i], mailbox[i+1:]
	}
	return mailbox, ""
}

// isDotString reports whether a local part needs no quotes; RFC 6531 §3.3 adds
// UTF-8 to what RFC 5321 §4.1.2 allows.
func isDotString(local string) bool {
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return r <= ' ' || r == 0x7F || strings.ContainsRune(`()<>[]:;@\,"`, r)
		}) {
			return false
		}
	}
	return true
}

// A Param is a parameter of MAIL or RCPT.
type Param struct {
	Name  string // in upper case
	Value string // "" where there is none
}

// ErrParams: the parameters can't be read.
var ErrParams = errors.New("malformed parameters")

// Params reads parameters (RFC 5321 §4.1.1.11), whatever their names. A repeated name is
// an error.
func Params(s string) ([]Param, error) {
	var params []Param
	for word := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(word, "=")
		p := Param{strings.ToUpper(name), value}
		if !isKeyword(p.Name) {
			return nil, ErrParams
		}
		for _, other := range params {
			if other.Name == p.Name {
				return nil, ErrParams
			}
		}
		params = append(params, p)
	}
	return params, nil
}

// isKeyword reports whether s, in upper case, is an esmtp-keyword.
func isKeyword(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
}
