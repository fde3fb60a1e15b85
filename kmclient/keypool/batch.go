package keypool

import (
	"errors"
	"net/http"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// refusalAge is how long a refused batch size is not tried again.
const refusalAge = time.Minute

// A batchSize learns how many keys a key manager gives in one request, since neither
// the limits nor the stock that key managers report are reliable. A refusal halves it,
// whatever the words. Each success lets it grow, but not to a size refused recently.
type batchSize struct {
	worked  int       // since a refusal, the largest batch that was given, or the next to try; 0: none
	refused int       // the smallest batch that was refused recently; 0: none
	until   time.Time // when that is forgotten
}

// next returns how many keys to ask for if number are wanted.
func (b *batchSize) next(number int, now time.Time) int {
	if b.worked > 0 {
		number = min(number, 2*b.worked)
	}
	if b.refused > 0 && now.Before(b.until) {
		number = min(number, b.refused/2)
	}
	return max(number, 1)
}

// learn takes the outcome of a request for number keys into account, and reports
// whether to make a smaller one now.
func (b *batchSize) learn(number int, err error, now time.Time) (again bool) {
	switch {
	case err == nil:
		if b.worked > 0 {
			b.worked = max(b.worked, number)
		}
		if number >= b.refused {
			b.refused = 0
		}
	case isRefused(err):
		b.worked, b.refused, b.until = max(number/2, 1), number, now.Add(refusalAge)
		return number > 1
	}
	return false
}

// isRefused reports whether a key manager has refused a request and given out no key,
// so that a smaller request may succeed. After a lost answer it may have given keys
// out.
func isRefused(err error) bool {
	e, ok := errors.AsType[*kmclient.Error](err)
	switch {
	case errors.Is(err, kmclient.ErrRefused): // the caller is refused, whatever the request
		return false
	case ok && (e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout): // a gateway answered; the key manager's answer may be lost
		return false
	case errors.Is(err, kmclient.ErrKeyExhausted), errors.Is(err, kmclient.ErrBadRequest):
		return true
	}
	return ok && e.Status != http.StatusTooManyRequests && (e.Status/100 == 4 || e.Status == http.StatusServiceUnavailable)
}
