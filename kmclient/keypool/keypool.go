// Package keypool fetches keys ahead of their use, so that a busy sender makes one
// request to its key manager per batch of keys, not one per message.
//
// A [Pool] wraps a [kmclient.KeyManager] and is one itself. Keys that are fetched ahead
// are only in memory. Each is given out once, or wiped and counted when it gets too old
// or the pool is closed. If the key manager keeps keys until they are closed, it still
// has the wiped ones.
//
// If a key manager refuses a batch, in whatever words, it is asked for half of it, and
// so on down to one key. Later batches grow again.
//
// Don't use a pool with a KME that drops a key once it gives out the next.
package keypool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// ErrClosed comes with [kmclient.ErrUnavailable] from a closed pool.
var ErrClosed = errors.New("key pool closed")

// Options say how many keys a pool fetches ahead. Zero means the default.
type Options struct {
	Size     int           // of a key, in bits; default 256. Requests for other sizes bypass the pool
	Batch    int           // keys per fetch, within the key manager's limit; default 128. Requests for more bypass the pool
	Low      int           // if there are fewer keys than this for a peer, more are fetched; default a quarter of Batch
	Max      int           // most keys for one peer; default twice Batch
	MaxAge   time.Duration // of a key, from its arrival; default 10 minutes
	MaxPeers int           // with keys; default 64. The one least recently asked for makes room
	Timeout  time.Duration // of one fetch; default 1 minute
	Logger   *slog.Logger  // gets fetches that fail; may be nil
}

// Stats counts keys since the pool was made.
// Fetched = Served + Expired + Discarded + Stock.
type Stats struct {
	Requests  int64 // key requests that the pool has made
	Failures  int64 // requests that brought no key
	Fetched   int64 // keys that arrived
	Served    int64 // keys given out
	Expired   int64 // keys wiped because of their age
	Discarded int64 // keys wiped because the pool was closed, had no room for their peer, or could not use them
	Stock     int   // keys in the pool
	Peers     int   // peers that were asked for
}

// A Pool is a key manager that fetches keys ahead. Its methods may be called by
// several goroutines at the same time.
type Pool struct {
	km   kmclient.KeyManager
	o    Options
	life context.Context // ends when the pool is closed
	end  context.CancelFunc
	work sync.WaitGroup // fetches

	mu     sync.Mutex
	closed bool
	stocks map[string]*stock // by peer
	stats  Stats             // but for Stock and Peers
	timer  *time.Timer       // for the age of keys; nil if there are none
}

var _ kmclient.KeyManager = (*Pool)(nil)

// New returns a pool of keys from km. It fetches nothing before the first call of
// GetKeys.
func New(km kmclient.KeyManager, o Options) (*Pool, error) {
	o.Size, o.Batch = cmp.Or(o.Size, 256), cmp.Or(o.Batch, 128)
	o.Low, o.Max = cmp.Or(o.Low, max(o.Batch/4, 1)), cmp.Or(o.Max, 2*o.Batch)
	o.MaxAge, o.Timeout = cmp.Or(o.MaxAge, 10*time.Minute), cmp.Or(o.Timeout, time.Minute)
	o.MaxPeers = cmp.Or(o.MaxPeers, 64)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	switch {
	case km == nil:
		return nil, fmt.Errorf("%w: a key pool needs a key manager", kmclient.ErrConfig)
	case kmclient.CheckSize(o.Size) != nil, o.Size > kmclient.MaxRequestSize:
		return nil, fmt.Errorf("%w: a key pool for keys of %d bits", kmclient.ErrConfig, o.Size)
	case o.Batch < 1, o.Batch > kmclient.MaxRequestKeys, o.Low < 1, o.Low > o.Max, o.Max < o.Batch, o.MaxPeers < 1:
		return nil, fmt.Errorf("%w: key pool: must be 1 ≤ Batch ≤ Max, Batch ≤ %d, 1 ≤ Low ≤ Max, MaxPeers ≥ 1", kmclient.ErrConfig, kmclient.MaxRequestKeys)
	case o.MaxAge < 0, o.Timeout < 0:
		return nil, fmt.Errorf("%w: key pool: a negative time", kmclient.ErrConfig)
	}
	p := &Pool{km: km, o: o, stocks: map[string]*stock{}}
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// Status passes through to the key manager.
func (p *Pool) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	return p.km.Status(ctx, peer)
}

// KeysByID passes through to the key manager.
func (p *Pool) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	return p.km.KeysByID(ctx, peer, ids...)
}

// CloseKey passes through to the key manager.
func (p *Pool) CloseKey(ctx context.Context, id string) error { return p.km.CloseKey(ctx, id) }

// DeletesOnDelivery passes through to the key manager.
func (p *Pool) DeletesOnDelivery() bool { return p.km.DeletesOnDelivery() }

// Stats returns the counts so far.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Peers = len(p.stocks)
	for _, stock := range p.stocks {
		s.Stock += len(stock.keys)
	}
	return s
}

// Close stops fetching and wipes the keys in the pool. It waits until no fetch is under
// way, or returns ctx's error; in both cases the pool is closed, and keys that arrive
// later are wiped.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.end()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	for _, s := range p.stocks {
		p.discard(s)
		s.dismiss(unavailable(ErrClosed))
	}
	p.mu.Unlock()

	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
