package kmclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"
)

// maxMessage is how many characters of a key manager's own words are kept.
const maxMessage = 200

// refusal turns an answer other than 2xx into an error.
func refusal(q call, status int, body []byte) *Error {
	e := &Error{Op: q.op, Status: status, Message: kmMessage(body)}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Err = ErrRefused
	case q.op == operationGetKeys && status >= 400 && saysExhausted(e.Message):
		// No standard gives running out of keys a code: 400 and 503 are in use.
		e.Err, e.Retry = ErrKeyExhausted, true
	case status == http.StatusNotFound && q.byID:
		e.Err = ErrKeyNotFound
	case status == http.StatusNotFound:
		e.Err = fmt.Errorf("%w: it knows no such path: is the URL that of a key manager, and of this kind?", ErrBadAnswer)
	case status == http.StatusTooManyRequests || status >= 500:
		e.Err, e.Retry = ErrUnavailable, true
	case status >= 400:
		e.Err = ErrBadRequest
	case status >= 300:
		e.Err = fmt.Errorf("%w: a redirect, which is not followed", ErrBadAnswer)
	default:
		e.Err = fmt.Errorf("%w: unexpected status", ErrBadAnswer)
	}
	if isHTML(body) {
		e.Err = fmt.Errorf("%w: an HTML page instead of JSON", e.Err)
	}
	return e
}

// isHTML reports whether a body is HTML (or XML): no JSON begins with "<".
func isHTML(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
}

// kmMessage returns the key manager's own words from a JSON answer: printable
// characters only, and not too many, since they go into logs.
func kmMessage(body []byte) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return ""
	}
	for _, name := range []string{"message", "error", "detail"} {
		var text string
		if json.Unmarshal(fields[name], &text) == nil && text != "" {
			return printable(text)
		}
	}
	return ""
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r): // a line break is a blank
			return ' '
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			return r
		}
		return -1
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage-1]) + "…"
	}
	return s
}

// saysExhausted reports whether a key manager's words mean that it has no
// fresh key. It takes them narrowly ("no key_size", "connection pool
// exhausted" don't count), since a policy may let mail out unencrypted when
// there is no key, but not when the key manager is out of order.
func saysExhausted(message string) bool {
	message = strings.ToLower(message)
	about := regexp.MustCompile(`\b(keys?|key ?(pool|store|material|buffer)|qkd|quantum)\b`)
	out := regexp.MustCompile(`exhaust|insufficient|not enough|run out|ran out|out of keys?\b|depleted` +
		`|\bno (\w+ )?keys?( material)?( (is|are|left|available|remain\w*|in|for|stored|ready|currently|at)\b|[.,;:!)]|$)`)
	return about.MatchString(message) && out.MatchString(message)
}
