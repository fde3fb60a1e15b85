package keypool

import (
	"errors"
	"net/http"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// refusalAge is for how long a batch that was refused is not tried again.
const refusalAge = time.Minute

// A batchSize is how many keys a key manager gives in one request. A refusal
// halves it, whatever the words: key managers tell neither their limits nor
// their stock reliably. Each success lets it grow, up to what was refused a
// short while ago. The zero batchSize knows nothing.
type batchSize struct {
	worked  int       // the largest that did, or is next to be tried, since a refusal; 0: none yet
	refused int       // the smallest that was refused lately; 0: none
	until   time.Time // when that is forgotten
}

// next returns how many keys to ask for where number are wanted.
func (b *batchSize) next(number int, now time.Time) int {
	if b.worked > 0 {
		number = min(number, 2*b.worked)
	}
	if b.refused > 0 && now.Before(b.until) {
		number = min(number, b.refused/2)
	}
	return max(number, 1)
}

// learn takes in what came of a request, and reports whether a smaller one
// should be made now.
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

// isRefused reports whether a key manager has refused a request that a smaller
// one might do better than, and has given out no key. Where an answer was lost,
// nobody knows.
func isRefused(err error) bool {
	e, ok := errors.AsType[*kmclient.Error](err)
	switch {
	case errors.Is(err, kmclient.ErrRefused): // it is the caller that is refused
		return false
	case ok && (e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout): // the answer may be lost behind it
		return false
	case errors.Is(err, kmclient.ErrKeyExhausted), errors.Is(err, kmclient.ErrBadRequest):
		return true
	}
	return ok && e.Status != http.StatusTooManyRequests && (e.Status/100 == 4 || e.Status == http.StatusServiceUnavailable)
}
