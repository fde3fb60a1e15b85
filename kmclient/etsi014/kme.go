package etsi014

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

const (
	limitsAge      = time.Minute      // how long a KME's limits are believed
	limitsPeers    = 256              // peers whose limits are remembered
	downFor        = 30 * time.Second // how long a KME that can't be reached is asked last
	maxConnections = 32               // to one KME
)

// A kme is one of the KMEs of a site.
type kme struct {
	name   string // HOST:PORT, for logs
	alone  bool   // there is no other to ask
	caller *kmhttp.Client
	files  *tlsFiles
	seen   atomic.Int64 // the generation of files that connections were made with
	down   atomic.Int64 // until when it is asked last, in Unix nanoseconds

	mu     sync.Mutex
	limits map[string]limits // by peer
}

// limits are what a status says of requests; zero: it does not say.
type limits struct {
	keys       int // a request
	minSize    int // bits
	maxSize    int // bits
	additional int // SAEs
	known      bool
	until      time.Time
}

func newKME(base string, id kmeID, files *tlsFiles, timeout time.Duration) *kme {
	k := &kme{name: base, files: files, limits: map[string]limits{}}
	if u, err := url.Parse(base); err == nil {
		k.name = u.Host
	}
	k.caller = kmhttp.New(base, &tls.Config{MinVersion: tls.VersionTLS12}, timeout)
	k.caller.Transport.MaxConnsPerHost = maxConnections
	k.caller.Transport.DialTLSContext = files.dialer(id, k.caller.Timeout/3)
	return k
}

// ask sends one request. New certificate files are for new connections, so the
// old ones are closed when they have nothing to do.
func (k *kme) ask(ctx context.Context, q kmhttp.Call) (int, []byte, *kmclient.Error) {
	if generation := k.files.refresh(); k.seen.Swap(generation) != generation {
		k.caller.HTTP.CloseIdleConnections()
	}
	code, body, err := k.caller.Do(ctx, q)
	switch {
	case err == nil || err.Status != 0:
		k.down.Store(0)
	case ctx.Err() == nil:
		k.noteDown()
	}
	if err != nil && (err.Status == http.StatusBadGateway || err.Status == http.StatusGatewayTimeout) {
		err.Lost = true // a gateway's words: what the KME did, nobody knows
	}
	return code, body, err
}

// noteDown has the KME asked last for a while.
func (k *kme) noteDown() { k.down.Store(time.Now().Add(downFor).UnixNano()) }

func (k *kme) isDown(now time.Time) bool { return now.UnixNano() < k.down.Load() }

// status asks for the status, and remembers the limits in it.
func (k *kme) status(ctx context.Context, peer, path string) (kmclient.Status, *kmclient.Error) {
	q := kmhttp.Call{Op: kmhttp.OpStatus, Method: http.MethodGet, Path: path, Limit: kmhttp.StatusLimit, Again: k.alone}
	code, body, failed := k.ask(ctx, q)
	if failed != nil {
		failed.Lost = false // nothing is lost with it
		return kmclient.Status{}, failed
	}
	s, err := kmhttp.DecodeStatus(body)
	if err != nil {
		return kmclient.Status{}, kmhttp.BadAnswer(q, code, body, err)
	}
	k.remember(peer, limits{
		keys: s.MaxKeyPerRequest, minSize: s.MinKeySize, maxSize: s.MaxKeySize, additional: s.MaxSAEIDs, known: true,
	})
	return s, nil
}

func (k *kme) remember(peer string, l limits) {
	l.until = time.Now().Add(limitsAge)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.limits) >= limitsPeers {
		clear(k.limits)
	}
	k.limits[peer] = l
}

// forget makes the next request ask for the limits anew.
func (k *kme) forget(peer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.limits, peer)
}

// limitsOf returns the limits of requests about peer, asking the KME where
// they are not known. A KME that answers, but not with a status, whatever else,
// is taken to have none: it may serve keys all the same.
func (k *kme) limitsOf(ctx context.Context, peer string) (limits, *kmclient.Error) {
	k.mu.Lock()
	l, ok := k.limits[peer]
	k.mu.Unlock()
	if ok && time.Now().Before(l.until) {
		return l, nil
	}
	path, err := saePath(peer, "status")
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

// batch returns how many of number keys to ask for in one request.
func (l limits) batch(number int) int {
	if l.keys > 0 {
		return min(number, l.keys)
	}
	return number
}

// isAbsence reports whether a KME answered that it has no such key, or none at
// all.
func isAbsence(e *kmclient.Error) bool {
	return errors.Is(e, kmclient.ErrKeyNotFound) || errors.Is(e, kmclient.ErrKeyExhausted)
}
