package etsi014

import (
	"context"
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

const (
	limitsAge   = time.Minute // how long a KME's limits are believed
	limitsPeers = 256         // peers whose limits are remembered
)

// limits are a KME's limits for requests, from its status; 0: it names none.
type limits struct {
	keys       int  // per request
	minSize    int  // bits
	maxSize    int  // bits
	additional int  // SAEs of a multicast key
	known      bool // the KME has answered with a status
	until      time.Time
}

// batch returns how many of number keys to ask for in one request.
func (l limits) batch(number int) int {
	if l.keys > 0 {
		return min(number, l.keys)
	}
	return number
}

// limitsOf returns the limits of requests about peer, and asks the KME if they are not
// known. A KME that answers with anything but a status has no limits: it may still
// serve keys.
func (k *kme) limitsOf(ctx context.Context, peer string) (limits, *kmclient.Error) {
	k.mu.Lock()
	l, ok := k.limits[peer]
	k.mu.Unlock()
	if ok && time.Now().Before(l.until) {
		return l, nil
	}
	path, err := Path(peer, "status")
	if err != nil {
		return limits{}, &kmclient.Error{Op: kmhttp.OpStatus, Err: err}
	}
	if _, failed := k.status(ctx, peer, path); failed != nil {
		if failed.Status == 0 {
			return limits{}, failed
		}
		k.remember(peer, limits{})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.limits[peer], nil
}

// limitsFor returns the limits for a key request, or an error if it exceeds them. A
// request for one key needs none.
func (k *kme) limitsFor(ctx context.Context, r encRequest) (limits, *kmclient.Error) {
	if r.Number == 1 && len(r.Additional) == 0 {
		return limits{}, nil
	}
	l, failed := k.limitsOf(ctx, r.peer)
	var err error
	switch {
	case failed != nil:
		failed.Op = kmhttp.OpGetKeys
		return limits{}, failed
	case l.maxSize > 0 && r.Size > l.maxSize:
		err = fmt.Errorf("%w: key size %d: the KME gives keys of at most %d bits", kmclient.ErrBadRequest, r.Size, l.maxSize)
	case r.Size < l.minSize:
		err = fmt.Errorf("%w: key size %d: the KME gives keys of at least %d bits", kmclient.ErrBadRequest, r.Size, l.minSize)
	case l.known && l.additional == 0 && len(r.Additional) > 0:
		err = fmt.Errorf("%w: the KME gives no keys to several SAEs", kmclient.ErrUnsupported)
	case l.known && len(r.Additional) > l.additional:
		err = fmt.Errorf("%w: %d additional SAEs: the KME takes at most %d", kmclient.ErrBadRequest, len(r.Additional), l.additional)
	}
	if err != nil {
		return limits{}, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: err}
	}
	return l, nil
}

// remember keeps the limits of requests about peer for a while.
func (k *kme) remember(peer string, l limits) {
	l.until = time.Now().Add(limitsAge)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.limits) >= limitsPeers {
		clear(k.limits)
	}
	k.limits[peer] = l
}

// forget makes the next request ask for the limits again.
func (k *kme) forget(peer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.limits, peer)
}
