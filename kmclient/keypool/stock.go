package keypool

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	firstPause  = 200 * time.Millisecond // before a fetch that follows a failure
	longestWait = 5 * time.Second        // the pause doubles up to this
)

// A stock holds the keys for one peer, and the callers that wait for them. Pool.mu must
// be held to use it.
type stock struct {
	keys     []pooled  // oldest first
	callers  []*caller // in order of arrival
	asked    time.Time // when keys were last asked for
	fetching bool

	limit  int           // keys per request, from the key manager's status; 0: not asked for yet
	size   batchSize     // keys per request that it gives
	pause  time.Duration // after the next failure
	until  time.Time     // no fetch before this time
	failed error         // the failure that until is for
}

type pooled struct {
	*kmclient.Key
	since time.Time // when it arrived
}

// A caller waits for a number of keys.
type caller struct {
	number int
	served chan struct{} // closed when there are keys or an error
	keys   []*kmclient.Key
	err    error
}

// GetKeys returns keys that were fetched ahead, if they are of the pool's size. If
// there are not enough, it waits for the next fetch, which serves all waiting callers.
// If that fails, so do the callers for which there are not enough keys. For a moment
// after a failure, new callers get the same error without a new request.
func (p *Pool) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if size != p.o.Size || number < 1 || number > p.o.Batch {
		return p.km.GetKeys(ctx, peer, size, number)
	}
	if ctx.Err() != nil {
		return nil, unavailable(context.Cause(ctx))
	}
	c := &caller{number: number, served: make(chan struct{})}
	s := p.enter(peer, c)
	if s == nil { // no room for this peer now
		return p.km.GetKeys(ctx, peer, size, number)
	}
	select {
	case <-c.served:
	case <-ctx.Done():
		p.leave(s, c, unavailable(context.Cause(ctx)))
	}
	return c.keys, c.err
}

// enter serves a caller, or makes it wait. It returns the stock, or nil if there is no
// room for the peer.
func (p *Pool) enter(peer string, c *caller) *stock {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.finish(nil, unavailable(ErrClosed))
		return &stock{}
	}
	s := p.stockOf(peer)
	if s == nil {
		return nil
	}
	s.asked = time.Now()
	p.expire(s, s.asked)
	s.callers = append(s.callers, c)
	p.serve(s)
	if len(s.callers) > 0 && s.asked.Before(s.until) {
		s.dismiss(s.failed)
	}
	p.refill(peer, s)
	return s
}

// leave ends the wait of a caller, unless it has been served in the meantime.
func (p *Pool) leave(s *stock, c *caller, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(s.callers, c); i >= 0 {
		s.callers = slices.Delete(s.callers, i, i+1)
		c.finish(nil, err)
	}
}

func (c *caller) finish(keys []*kmclient.Key, err error) {
	c.keys, c.err = keys, err
	close(c.served)
}

// serve gives keys to the callers in order, until there are not enough for the next
// one.
func (p *Pool) serve(s *stock) {
	for len(s.callers) > 0 && len(s.keys) >= s.callers[0].number {
		c := s.callers[0]
		keys := make([]*kmclient.Key, c.number)
		for i := range keys {
			keys[i] = s.keys[i].Key
			s.keys[i] = pooled{}
		}
		s.keys, s.callers = s.keys[c.number:], s.callers[1:]
		p.stats.Served += int64(c.number)
		c.finish(keys, nil)
	}
}

// serveSmall gives keys to all callers for which there are enough, even behind one that
// wants more.
func (p *Pool) serveSmall(s *stock) {
	waiting := s.callers
	s.callers = nil
	var left []*caller
	for _, c := range waiting {
		s.callers = []*caller{c}
		p.serve(s)
		left = append(left, s.callers...)
	}
	s.callers = left
}

// dismiss ends the wait of all callers.
func (s *stock) dismiss(err error) {
	for _, c := range s.callers {
		c.finish(nil, err)
	}
	s.callers = nil
}

// stockOf returns the stock for a peer, or nil if there is no room for it.
func (p *Pool) stockOf(peer string) *stock {
	if s := p.stocks[peer]; s != nil {
		return s
	}
	if len(p.stocks) >= p.o.MaxPeers {
		var oldest string
		for name, s := range p.stocks {
			if !s.fetching && (oldest == "" || s.asked.Before(p.stocks[oldest].asked)) {
				oldest = name
			}
		}
		if p.stocks[oldest] == nil {
			return nil
		}
		p.discard(p.stocks[oldest])
		delete(p.stocks, oldest)
	}
	s := &stock{}
	p.stocks[peer] = s
	return s
}

// refill starts a fetch, if one is needed, allowed and not under way.
func (p *Pool) refill(peer string, s *stock) {
	enough := len(s.callers) == 0 && len(s.keys) >= p.o.Low
	if enough || s.fetching || p.closed || time.Now().Before(s.until) {
		return
	}
	s.fetching = true
	number := min(p.o.Batch, p.o.Max-len(s.keys))
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(p.life, p.o.Timeout)
		defer cancel()
		keys, err := p.fetch(ctx, peer, s, number)
		if err != nil && ctx.Err() != nil { // this is not a caller's context
			err = unavailable(fmt.Errorf("no keys within %v: %w", p.o.Timeout, os.ErrDeadlineExceeded))
		}
		p.finish(peer, s, keys, err)
	})
}

// fetch asks the key manager for keys, within its limit. If it refuses, fetch asks for
// half as many, and so on.
func (p *Pool) fetch(ctx context.Context, peer string, s *stock, number int) ([]*kmclient.Key, error) {
	number = min(number, p.limitOf(ctx, peer, s))
	for {
		p.mu.Lock()
		batch := s.size.next(number, time.Now())
		p.mu.Unlock()
		keys, err := p.request(ctx, peer, batch)
		p.mu.Lock()
		again := s.size.learn(batch, err, time.Now())
		p.mu.Unlock()
		if !again {
			return keys, err
		}
	}
}

// limitOf returns how many keys the key manager gives in a request, according to its
// status.
func (p *Pool) limitOf(ctx context.Context, peer string, s *stock) int {
	p.mu.Lock()
	limit := s.limit
	p.mu.Unlock()
	if limit != 0 {
		return limit
	}
	limit = p.o.Batch // if that is too many, the key manager refuses
	if status, err := p.km.Status(ctx, peer); err == nil && status.MaxKeyPerRequest > 0 {
		limit = status.MaxKeyPerRequest
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.limit = limit
	return limit
}

// request makes one request and checks its answer.
func (p *Pool) request(ctx context.Context, peer string, number int) ([]*kmclient.Key, error) {
	p.mu.Lock()
	p.stats.Requests++
	p.mu.Unlock()
	keys, err := p.km.GetKeys(ctx, peer, p.o.Size, number)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Fetched += int64(len(keys))
	if err == nil {
		if bad := kmclient.CheckFresh(keys, p.o.Size, number); bad != nil {
			err = &kmclient.Error{Op: "get keys", Err: bad}
		}
	}
	if err != nil {
		p.stats.Failures++
		p.stats.Discarded += int64(len(keys))
		kmclient.WipeAll(keys)
		return nil, err
	}
	return keys, nil
}

// finish puts fetched keys into the stock and serves the callers.
func (p *Pool) finish(peer string, s *stock, keys []*kmclient.Key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.fetching = false
	now := time.Now()
	for _, k := range keys {
		s.keys = append(s.keys, pooled{k, now})
	}
	switch {
	case p.closed:
		p.discard(s)
		s.dismiss(unavailable(ErrClosed))
	case err != nil:
		p.serveSmall(s)
		s.pause = min(max(2*s.pause, firstPause), longestWait)
		s.until, s.failed, s.limit = now.Add(s.pause), err, 0
		s.dismiss(err)
		p.o.Logger.Warn("keys could not be fetched ahead", "peer", peer, "next_try_in", s.pause, "error", err)
	default:
		s.pause, s.until, s.failed = 0, time.Time{}, nil
		p.serve(s)
		p.refill(peer, s)
		p.arm(now.Add(p.o.MaxAge))
	}
}

// arm sets the timer that wipes old keys, unless it is running.
func (p *Pool) arm(at time.Time) {
	if p.timer == nil {
		p.timer = time.AfterFunc(time.Until(at), p.sweep)
	}
}

// sweep wipes the keys that are too old.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	if p.closed {
		return
	}
	now := time.Now()
	var next time.Time
	for _, s := range p.stocks {
		p.expire(s, now)
		if len(s.keys) > 0 && (next.IsZero() || s.keys[0].since.Before(next)) {
			next = s.keys[0].since
		}
	}
	if !next.IsZero() {
		p.arm(next.Add(p.o.MaxAge))
	}
}

// expire wipes the keys of a stock that are too old.
func (p *Pool) expire(s *stock, now time.Time) {
	for len(s.keys) > 0 && now.Sub(s.keys[0].since) >= p.o.MaxAge {
		s.keys[0].Wipe()
		s.keys = s.keys[1:]
		p.stats.Expired++
	}
}

// discard wipes all keys of a stock.
func (p *Pool) discard(s *stock) {
	for _, k := range s.keys {
		k.Wipe()
	}
	p.stats.Discarded += int64(len(s.keys))
	s.keys = nil
}

// unavailable returns the error for a caller that gets no keys for a reason that does
// not lie with the key manager.
func unavailable(why error) error {
	return &kmclient.Error{Op: "get keys", Retry: true, Err: fmt.Errorf("%w: %w", kmclient.ErrUnavailable, why)}
}
