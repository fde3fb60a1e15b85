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

// How much of a key manager's own words is kept.
const (
	maxMessage = 200 // characters of a message, or of one detail
	maxDetails = 8
)

// refusal turns an answer other than 2xx into an error.
func refusal(q call, status int, body []byte) *Error {
	e := &Error{Op: q.op, Status: status, Message: kmMessage(body), Details: kmDetails(body)}
	words := e.Message + ". " + strings.Join(e.Details, ". ")
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Err = ErrRefused
	case q.op == operationGetKeys && status >= 400 && saysExhausted(words):
		// No standard gives running out of keys a code: 400 and 503 are in use.
		e.Err, e.Retry = ErrKeyExhausted, true
	case status == http.StatusNotFound && q.byID:
		e.Err = ErrKeyNotFound
	case q.op == operationKeysByID && status >= 400 && saysNotFound(words):
		e.Err = ErrKeyNotFound // the standard's code is 400; 500 is in use as well
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

// kmDetails returns the "details" of ETSI GS QKD 014 §6.5: any objects, each
// as one line of JSON.
func kmDetails(body []byte) []string {
	var answer struct {
		Details []json.RawMessage `json:"details"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return nil
	}
	var details []string
	for _, raw := range answer.Details[:min(len(answer.Details), maxDetails)] {
		if text := printable(string(raw)); text != "" {
			details = append(details, text)
		}
	}
	return details
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

// saysNotFound reports whether a key manager's words mean that it does not
// hold a key that was asked for by its ID. Words about anything else that is
// not found, as an SAE, don't count.
func saysNotFound(message string) bool {
	message = strings.ToLower(message)
	about := regexp.MustCompile(`\bkeys?\b|\bkey[ _]?ids?\b`)
	gone := regexp.MustCompile(`(\bnot|n't|\bnever) (be )?(found|exist\w*|known|present|stored)\b|unknown key|no such key` +
		`|\bno (\w+ )?keys? (\w+ )?(found|with|for)\b|already (been )?(consumed|delivered|deleted|retrieved|used)`)
	other := regexp.MustCompile(`\b(sae|path|route|url|resource|endpoint|page)[^:;,.]{0,30}\b(not|n't) (be )?(found|exist|known)`)
	return about.MatchString(message) && gone.MatchString(message) && !other.MatchString(message)
}
