package keystore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// waiting is a key that was fetched for peer and could not be stored.
type waiting struct {
	peer string
	key  *kmclient.Key
}

// hold keeps keys waiting in memory, and returns how many are waiting then. After Close
// it wipes them, and ok is false.
func (s *Store) hold(peer string, keys []*kmclient.Key) (all int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		id := s.keyID(peer, k.ID())
		if _, twice := s.waiting[id]; twice || s.ended {
			k.Wipe()
			continue
		}
		s.count.fetched.Add(1)
		s.waiting[id] = waiting{peer, k}
	}
	s.keepTrying()
	return len(s.waiting), !s.ended
}

// The pauses between attempts to store the waiting keys: each is twice as long as the
// one before.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// keepTrying stores the waiting keys as soon as the store works: until then they would
// be lost with the process, and no other relay can get them. s.mu must be held.
func (s *Store) keepTrying() {
	if s.retrying || s.closed {
		return
	}
	s.retrying = true
	s.work.Go(func() {
		for pause := firstPause; ; pause = min(2*pause, lastPause) {
			select {
			case <-time.After(pause):
			case <-s.quit:
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), s.o.FetchTimeout)
			_ = s.flush(ctx) // it was logged that they wait
			cancel()
			s.mu.Lock()
			s.retrying = len(s.waiting) > 0
			again := s.retrying
			s.mu.Unlock()
			if !again {
				return
			}
		}
	})
}

// A flushing is an attempt to store the waiting keys.
type flushing struct {
	done chan struct{}
	err  error // once done is closed
}

// flush stores the waiting keys, if any. A store may take long to fail, and again for
// the next caller, so all callers share one attempt.
func (s *Store) flush(ctx context.Context) error {
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.mu.Unlock()
			return nil
		}
		f, own := s.flushing, s.flushing == nil
		if own {
			f = &flushing{done: make(chan struct{})}
			s.flushing = f
		}
		s.mu.Unlock()
		if own {
			f.err = s.storeWaiting(ctx)
			s.mu.Lock()
			s.flushing = nil
			s.mu.Unlock()
			close(f.done)
			return f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return kmclient.Canceled(ctx)
		}
		// If only that caller gave up, or more keys are waiting now, there is more to
		// do.
		if f.err != nil && !errors.Is(f.err, kmclient.ErrUnavailable) {
			return f.err
		}
	}
}

// storeWaiting stores the keys that are waiting now. It wipes those whose IDs were used
// in the meantime: they would wait forever.
func (s *Store) storeWaiting(ctx context.Context) error {
	s.mu.Lock()
	byPeer := map[string][]*kmclient.Key{} // copies: a Close whose time is up wipes the waiting keys
	for _, w := range s.waiting {
		byPeer[w.peer] = append(byPeer[w.peer], kmclient.NewKey(w.key.ID(), bytes.Clone(w.key.Reveal())))
	}
	s.mu.Unlock()
	for _, keys := range byPeer {
		defer kmclient.WipeAll(keys)
	}
	for peer, keys := range byPeer {
		if _, err := s.store(ctx, peer, keys); err != nil && !errors.Is(err, ErrClaimed) {
			return err
		}
		s.mu.Lock()
		for _, k := range keys {
			id := s.keyID(peer, k.ID())
			if w, ok := s.waiting[id]; ok {
				w.key.Wipe()
				delete(s.waiting, id)
			}
		}
		s.mu.Unlock()
		s.o.Logger.Info("keys that waited in memory are stored", "peer", peer, "keys", len(keys))
	}
	return nil
}

// flushFirst stores the waiting keys, if any, and returns the ids that are not in the
// store then. If the keys can't be stored, nothing may be fetched, since it would have
// to wait as well. If an ID was already used, the error is ErrClaimed.
func (s *Store) flushFirst(ctx context.Context, peer string, ids []string) (missing []string, err error) {
	s.mu.Lock()
	n := len(s.waiting)
	s.mu.Unlock()
	if n == 0 {
		return ids, nil
	}
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	records, err := s.unclaimed(ctx, peer, ids)
	if err != nil {
		return nil, err
	}
	defer wipeRecords(records)
	for i, k := range records {
		if k == nil {
			missing = append(missing, ids[i])
		}
	}
	return missing, nil
}
