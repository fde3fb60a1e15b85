// Package keypool fetches keys ahead of their use, so that a busy sender makes
// about one request to its key manager per batch of keys instead of one per
// message.
//
// A [Pool] stands before a [kmclient.KeyManager] and is one itself. Keys
// fetched ahead live in memory only. Each is handed out once, or wiped and
// counted: when it gets too old, and when the pool is closed. A key manager
// that keeps keys until they are closed then still has those.
//
// A key manager that refuses a batch, in whatever words, is asked for half of
// it, and so on down to one key. What it gave is remembered, and the batches
// grow again.
//
// Don't use one with a KME that drops an earlier key once the next is given
// out.
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

// ErrClosed is why a closed pool gives no keys; it is a
// [kmclient.ErrUnavailable] as well.
var ErrClosed = errors.New("key pool closed")

// Options say how many keys a pool fetches ahead. Zero means the default.
type Options struct {
	Size     int           // of the keys, in bits; 256. Other sizes pass by the pool
	Batch    int           // keys a fetch, within the key manager's limit; 128. Requests for more pass by the pool
	Low      int           // fewer keys than this for a peer, and more are fetched; a quarter of Batch
	Max      int           // keys for one peer; twice Batch
	MaxAge   time.Duration // of a key that waits, from its arrival; 10 minutes
	MaxPeers int           // with keys; 64. The one that was not asked for longest makes room
	Timeout  time.Duration // of one fetch; 1 minute
	Logger   *slog.Logger  // for fetches that fail; may be nil
}

// Stats counts keys since the pool was made. Every key is somewhere:
// Fetched = Served + Expired + Discarded + Stock.
type Stats struct {
	Requests  int64 // for keys, made by the pool
	Failures  int64 // of them, without a key
	Fetched   int64 // keys that arrived
	Served    int64 // keys handed out
	Expired   int64 // keys wiped for their age
	Discarded int64 // keys wiped because the pool was closed, had no room for their peer, or could not use them
	Stock     int   // keys that wait
	Peers     int   // that they are for, or were
}

// A Pool is a key manager with keys fetched ahead. Its methods may be called
// from several goroutines at the same time.
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
	timer  *time.Timer       // nil: no key waits for its age
}

var _ kmclient.KeyManager = (*Pool)(nil)

// New returns a pool before km; it fetches nothing until it is asked.
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

// DeletesOnDelivery says what the key manager says of itself.
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

// Close stops fetching and wipes the keys that wait. It returns when no fetch
// is under way any more, or with the error of ctx; the pool is closed in both
// cases, and keys that still arrive are wiped. The key manager is left open.
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
