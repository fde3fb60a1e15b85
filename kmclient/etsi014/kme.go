package etsi014

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

const (
	downFor        = 30 * time.Second // how long an unreachable KME is asked last
	maxConnections = 32               // to one KME
)

// A kme is one of the KMEs of a site.
type kme struct {
	name   string // HOST:PORT, for logs
	alone  bool   // there is no other to ask
	caller *kmhttp.Client
	files  *tlsFiles
	seen   atomic.Int64 // the generation of files that the connections use
	down   atomic.Int64 // it is asked last until this time, in Unix nanoseconds
	enc    method       // of enc_keys
	dec    method       // of dec_keys

	mu     sync.Mutex
	limits map[string]limits // by peer
}

func newKME(base string, id kmeID, files *tlsFiles, dial dialFunc, timeout time.Duration) *kme {
	k := &kme{name: base, files: files, limits: map[string]limits{}}
	if u, err := url.Parse(base); err == nil {
		k.name = u.Host
	}
	k.caller = kmhttp.New(base, &tls.Config{MinVersion: tls.VersionTLS12}, timeout)
	k.caller.Transport.MaxConnsPerHost = maxConnections
	k.caller.Transport.DialTLSContext = files.dialer(dial, id, k.caller.Timeout/3)
	return k
}

// ask sends one request. If the certificate files have changed, it closes the idle
// connections, which were made with the old ones.
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
		err.Lost = true // a gateway answered: the KME may have served the request
	}
	return code, body, err
}

// noteDown makes the KME the last to be asked for a while.
func (k *kme) noteDown() { k.down.Store(time.Now().Add(downFor).UnixNano()) }

func (k *kme) isDown(now time.Time) bool { return now.UnixNano() < k.down.Load() }

// status asks for the status, and remembers its limits.
func (k *kme) status(ctx context.Context, peer, path string) (kmclient.Status, *kmclient.Error) {
	q := kmhttp.Call{Op: kmhttp.OpStatus, Method: http.MethodGet, Path: path, Limit: kmhttp.StatusLimit, Again: k.alone}
	code, body, failed := k.ask(ctx, q)
	if failed != nil {
		failed.Lost = false // a status can be asked for again
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

// statusWithin is status within one of shares equal shares of the caller's time, so
// that a KME that accepts connections but never answers leaves time for the next one.
// That KME is then asked last for a while, as after the time-out of a request.
func (k *kme) statusWithin(ctx context.Context, shares int, peer, path string) (kmclient.Status, *kmclient.Error) {
	deadline, ok := ctx.Deadline()
	if !ok || shares == 1 {
		return k.status(ctx, peer, path)
	}
	share := time.Until(deadline) / time.Duration(shares)
	limited, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	s, err := k.status(limited, peer, path)
	if err != nil && err.Status == 0 && limited.Err() != nil && ctx.Err() == nil {
		k.noteDown()
		err.Err = fmt.Errorf("%w: no whole answer within %v: %w", kmclient.ErrUnavailable, share.Round(time.Millisecond), os.ErrDeadlineExceeded)
	}
	return s, err
}
