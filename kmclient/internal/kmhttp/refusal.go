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

// Refusal turns an answer other than 2xx into an error.
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
		e.Err = kmclient.ErrKeyNotFound // the standard's code is 400; 404 and 500 are in use as well
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

// refused is the error for 401 and 403. For a key by its ID it stays an
// ErrRefused, not a kmclient.ErrKeyNotFound: a certificate that is not accepted any
// more must not make mail bounce whose keys are all there.
func refused(q Call) error {
	if q.Op == OpKeysByID {
		return fmt.Errorf("%w: either this SAE as such, or a key that it does not hold or that is another SAE's", kmclient.ErrRefused)
	}
	return kmclient.ErrRefused
}

// refusedStatus is the error for a status of 400 or more, whatever the words.
func refusedStatus(status int, later bool) error {
	switch status {
	case http.StatusNotFound:
		return fmt.Errorf("%w: it knows no such path: is the URL that of a key manager, and of this kind?", kmclient.ErrBadAnswer)
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return kmclient.ErrUnavailable
	}
	if status >= 500 || later {
		return kmclient.ErrUnavailable
	}
	return kmclient.ErrBadRequest
}

// refusedKeys is the error for a status of 400 or more to a request for fresh
// keys. No standard gives running out of keys a code or words: 400, 404, 409
// and 503 are in use, with any text.
//
// An ErrKeyExhausted can let mail out in clear, where the policy is
// opportunistic. So it needs words that say that keys are lacking, and nothing
// else in them that is. Whatever may pass but does not say so is an
// ErrUnavailable.
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

// refusedOverLimit is the error for words that speak of a limit: one of a
// request, or one that passes, as of requests a minute.
func refusedOverLimit(status int, passes bool) error {
	err := refusedStatus(status, passes)
	if errors.Is(err, kmclient.ErrBadRequest) {
		return kmclient.ErrLimit
	}
	return err
}

// saysNotFound reports whether a key manager's words mean that it does not
// hold a key that was asked for by its ID. Words about anything else that is
// not found, as an SAE, don't count.
func saysNotFound(message string) bool {
	message = strings.ToLower(wordPatterns().paths.ReplaceAllString(message, " "))
	about := regexp.MustCompile(`\bkeys?\b|\bkey[ _]?ids?\b`)
	gone := regexp.MustCompile(`(\bnot|n't|\bnever) (be )?(found|exist\w*|known|present|stored)\b|unknown key|no such key` +
		`|\bno (\w+ )?keys? (\w+ )?(found|with|for)\b|already (been )?(consumed|delivered|deleted|retrieved|used)`)
	other := regexp.MustCompile(`\b(sae|path|route|url|resource|endpoint|page)[^:;,.]{0,30}\b(not|n't) (be )?(found|exist|known)`)
	return about.MatchString(message) && gone.MatchString(message) && !other.MatchString(message)
}

// BadAnswer is the error for a 2xx answer that can't be used. What the key
// manager says in it is worth telling: some say "error" and 200.
func BadAnswer(q Call, status int, body []byte, err error) *kmclient.Error {
	e := &kmclient.Error{Op: q.Op, Status: status, Err: err, Retry: errors.Is(err, kmclient.ErrKeyExhausted)}
	if root, isJSON := parseWords(body); isJSON && errors.Is(err, kmclient.ErrBadAnswer) {
		e.Message = redact.Words(messageOf(root), q.IDs)
	}
	return e
}
