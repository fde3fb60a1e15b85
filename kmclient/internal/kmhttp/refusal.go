package kmhttp

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// Refusal returns the error for an answer other than 2xx (ETSI GS QKD 014 §6.5).
func Refusal(q Call, status int, header http.Header, body []byte) *kmclient.Error {
	words := readWords(body, q.IDs)
	e := &kmclient.Error{Op: q.Op, Status: status, Message: words.message, Details: words.details}
	switch notFound := q.Op == OpKeysByID && saysNotFound(words.all); {
	case status < 300:
		e.Err = fmt.Errorf("%w: unexpected status", kmclient.ErrBadAnswer)
	case status < 400:
		e.Err = fmt.Errorf("%w: a redirect, which is not followed", kmclient.ErrBadAnswer)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Err = refused(q)
	case notFound, status == http.StatusNotFound && len(q.IDs) > 0:
		e.Err = kmclient.ErrKeyNotFound // the standard's code is 400; 404 and 500 are also in use
	case q.Op == OpGetKeys:
		e.Err = refusedKeys(status, header, words.all)
	default:
		e.Err = refusedStatus(status, hintsAtRetry(header, ""))
	}
	e.Retry = errors.Is(e.Err, kmclient.ErrUnavailable) || errors.Is(e.Err, kmclient.ErrKeyExhausted)
	if isHTML(body) {
		e.Err = fmt.Errorf("%w: an HTML page instead of JSON", e.Err)
	}
	return e
}

// refused returns the error for 401 and 403. For a key by its ID, too, it is ErrRefused
// and not ErrKeyNotFound: while a certificate is not accepted, mail whose keys are all
// there must not bounce.
func refused(q Call) error {
	if q.Op == OpKeysByID {
		return fmt.Errorf("%w: either this SAE, or a key that is unknown or another SAE's", kmclient.ErrRefused)
	}
	return kmclient.ErrRefused
}

// refusedStatus returns the error for a status of 400 or more, whatever the words are.
func refusedStatus(status int, later bool) error {
	switch status {
	case http.StatusNotFound:
		return fmt.Errorf("%w: it knows no such path; is the URL that of a key manager of this kind?", kmclient.ErrBadAnswer)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return kmclient.ErrUnavailable
	}
	if status >= 500 || later {
		return kmclient.ErrUnavailable
	}
	return kmclient.ErrBadRequest
}

// refusedKeys returns the error for a status of 400 or more to a key request. No
// standard has a code or words for a lack of keys: key managers use 400, 404, 409 and
// 503, with any text.
//
// ErrKeyExhausted may cause mail to be sent in clear, if the policy is opportunistic.
// So it takes words that say that keys are lacking, and nothing else is. Anything else
// that may pass is ErrUnavailable.
func refusedKeys(status int, header http.Header, words string) error {
	t := readShortage(words)
	later := hintsAtRetry(header, words)
	switch {
	case t.stranger:
		return refusedStatus(status, false)
	case t.short && t.outOfOrder, t.notThere && (t.outOfOrder || t.failed):
		return kmclient.ErrUnavailable
	case (t.short || t.notThere) && !t.perRequest:
		return kmclient.ErrKeyExhausted
	case t.limit || t.perRequest:
		return refusedOverLimit(status, later && !t.perRequest)
	case t.aboutKeys && later && !t.outOfOrder && !t.failed && (status < 500 || status == http.StatusServiceUnavailable) &&
		status != http.StatusTooManyRequests:
		return kmclient.ErrKeyExhausted
	case status == http.StatusNotFound && !t.outOfOrder && saysNotFound(words):
		return kmclient.ErrKeyExhausted
	}
	return refusedStatus(status, later || t.outOfOrder)
}

// refusedOverLimit returns the error for words about a limit: either on one request, or
// one that passes, such as requests per minute.
func refusedOverLimit(status int, passes bool) error {
	err := refusedStatus(status, passes)
	if errors.Is(err, kmclient.ErrBadRequest) {
		return kmclient.ErrLimit
	}
	return err
}

// saysNotFound reports whether a key manager's words mean that it has no key with an
// ID that was asked for. Words about something else, such as an unknown SAE, don't
// count.
func saysNotFound(message string) bool {
	message = strings.ToLower(wordPatterns().paths.ReplaceAllString(message, " "))
	about := regexp.MustCompile(`\bkeys?\b|\bkey[ _]?ids?\b`)
	gone := regexp.MustCompile(`(\bnot|n't|\bnever) (be )?(found|exist\w*|known|present|stored)\b|unknown key|no such key` +
		`|\bno (\w+ )?keys? (\w+ )?(found|with|for)\b|already (been )?(consumed|delivered|deleted|retrieved|used)`)
	other := regexp.MustCompile(`\b(sae|path|route|url|resource|endpoint|page)[^:;,.]{0,30}\b(not|n't) (be )?(found|exist|known)`)
	return about.MatchString(message) && gone.MatchString(message) && !other.MatchString(message)
}

// BadAnswer returns the error for an unusable 2xx answer, with the key manager's words:
// some report an error with 200.
func BadAnswer(q Call, status int, body []byte, err error) *kmclient.Error {
	e := &kmclient.Error{Op: q.Op, Status: status, Err: err, Retry: errors.Is(err, kmclient.ErrKeyExhausted)}
	if root, isJSON := parseWords(body); isJSON && errors.Is(err, kmclient.ErrBadAnswer) {
		e.Message = redact.Words(messageOf(root), q.IDs)
	}
	return e
}
