package mailer

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
)

// A stock remembers, for each peer, that there were too few keys for a pad. A long
// pad takes its keys in several requests, and an attempt that runs dry has used up
// what there was: repeated with each delivery attempt of a mail system, it would
// leave nothing for anybody else.
type stock struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	short  map[string]*shortage // by the peer's SAE ID
	noPads map[string]string    // by the same: why there is no pad, as it was logged
}

// A shortage says that a pad that takes so many bytes of key, or more, is not to be
// tried for a while.
type shortage struct {
	need  int64 // bytes of key
	dry   bool  // the key manager has refused keys; else only its status speaks for it
	until time.Time
	wait  time.Duration
}

// errNotTried: a message that might try a pad has not come so far.
var errNotTried = errors.New("no pad was tried")

// How long a pad is not tried: at first, and at most.
const (
	firstWait = time.Minute
	mostWait  = time.Hour
)

func newStock(log *slog.Logger) *stock {
	return &stock{log: log, now: time.Now, short: map[string]*shortage{}, noPads: map[string]string{}}
}

// check refuses a pad that can't be expected to succeed. Only the key manager's answer
// to a request for keys is certain: what its status says of the stock, 0 above all,
// means little at one that makes keys when they are asked for. So it only counts for
// a pad that takes several requests, and holds that off for a while. Mail that may
// leave in clear is not held off for it. trial says that this pad is the one that may
// be tried after a while: learn must be told how it ends.
func (s *stock) check(peer string, cost cipher.PadCost, status kmclient.Status, opportunistic bool) (trial bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := storedBytes(status)
	d, now := s.short[peer], s.now()
	concerns := d != nil && cost.KeyBytes >= d.need && (d.dry || !opportunistic)
	switch {
	case known && have >= cost.KeyBytes:
		return false, nil
	case concerns && now.Before(d.until):
		return false, fmt.Errorf("%w: a pad of %d bytes of key could not be had lately, the next attempt is in %v",
			kmclient.ErrKeyExhausted, d.need, d.until.Sub(now).Round(time.Second))
	case concerns:
		d.until = now.Add(d.wait) // for the others
		return true, nil
	case known && inSeveralRequests(cost, status) && !opportunistic:
		s.short[peer] = &shortage{need: cost.KeyBytes, until: now.Add(firstWait), wait: firstWait}
		return false, fmt.Errorf("%w: a pad takes %d bytes of key and the key manager has %d", kmclient.ErrKeyExhausted, cost.KeyBytes, have)
	}
	return false, nil
}

// storedBytes is how many bytes of key a status says that there are. It is not known
// where nothing is said, or 0, which those say that make keys when they are asked.
func storedBytes(s kmclient.Status) (n int64, known bool) {
	if s.OnDemand || s.KeySize <= 0 || s.StoredKeys == nil || *s.StoredKeys <= 0 {
		return 0, false
	}
	return int64(*s.StoredKeys) * int64(s.KeySize/8), true
}

// inSeveralRequests reports whether a pad takes more than one request for keys, which
// a key manager grants or refuses as a whole.
func inSeveralRequests(cost cipher.PadCost, s kmclient.Status) bool {
	return cost.Frames > 1 || s.MaxKeyPerRequest > 0 && cost.Keys > int64(s.MaxKeyPerRequest)
}

// learn takes note of how an attempt at a pad has ended, of which so many bytes of key
// are needed. keys were handed out for it. A trial that finds the key manager short
// again makes the wait longer; one that shows nothing, since its client has gone, say,
// leaves the next one to another message.
func (s *stock) learn(peer string, need int64, keys int, trial bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.short[peer]
	switch short := errors.Is(err, kmclient.ErrKeyExhausted); {
	case err == nil && d != nil && need >= d.need:
		delete(s.short, peer)
	case short && keys > 0 && d == nil:
		s.short[peer] = &shortage{need: need, dry: true, until: s.now().Add(firstWait), wait: firstWait}
	case short && d != nil && (keys > 0 || trial):
		if trial {
			d.wait = min(2*d.wait, mostWait)
		}
		d.need, d.dry, d.until = min(need, d.need), d.dry || keys > 0, s.now().Add(d.wait)
	case err != nil && trial && d != nil:
		d.until = s.now()
	}
}

// noPad logs that there is no pad for a peer, if that is news.
func (s *stock) noPad(peer string, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := reason.Error(); s.noPads[peer] != text {
		s.noPads[peer] = text
		s.log.Warn("there is no pad for this peer with its key manager; AES-256-GCM is taken instead", "peer_sae", peer, "cause", text)
	}
}

// padCost is what a pad for the message of a group takes, and the key manager's
// status. It is not known where the message gets none, or its size is not known.
func (s *encryptSession) padCost(g *group) (cost cipher.PadCost, status kmclient.Status, known bool, err error) {
	size := s.opts.Size
	if size == 0 || g.suite != cipher.SuiteOTP && (g.suite != cipher.SuiteAuto || size > int64(g.route.PadLimit)) {
		return cost, status, false, nil
	}
	if status, err = g.keys.Status(s.ctx, g.route.Peer.SAE); err != nil {
		return cost, status, false, nil // encryption asks again, and says so
	}
	cost, err = cipher.PadCostOf(status, size)
	if errors.Is(err, cipher.ErrPad) {
		return cost, status, false, nil // so does that, with what follows from it
	}
	return cost, status, err == nil, err
}

// checkSize refuses a message whose encrypted form the next hop will refuse for its
// size, before keys are spent on it. A pad of short keys makes it nearly three times as
// long; where the suite is auto, AES-256-GCM is taken then.
func (s *encryptSession) checkSize(g *group) error {
	cost, _, known, err := s.padCost(g)
	if err != nil || !known || s.o.NextSize == nil {
		return err
	}
	if most := s.o.NextSize(); most <= 0 || cost.MessageBytes <= most {
		return nil
	}
	if g.route.Suite == cipher.SuiteAuto {
		g.suite = cipher.SuiteAES256GCM
		return nil
	}
	return message.TooLarge()
}

// checkStock refuses a message for whose pad there are too few keys, before the first
// of them is spent on it.
func (s *encryptSession) checkStock(g *group) (trial bool, err error) {
	cost, status, known, err := s.padCost(g)
	if err != nil || !known {
		return false, err
	}
	return s.o.stock.check(g.route.Peer.SAE, cost, status, g.route.Mode == Opportunistic)
}

// learn takes note of how the encryption of a message has ended.
func (s *encryptSession) learn(g *group, info *cipher.Info, trial bool, err error) {
	if info.NoPad != nil {
		s.o.stock.noPad(g.route.Peer.SAE, info.NoPad)
	}
	if info.Suite != cipher.SuiteOTP {
		if !trial {
			return
		}
		err = errNotTried
	}
	status, serr := g.keys.Status(s.ctx, g.route.Peer.SAE)
	cost, cerr := cipher.PadCostOf(status, max(s.opts.Size, info.PlaintextSize))
	if serr == nil && cerr == nil {
		s.o.stock.learn(g.route.Peer.SAE, cost.KeyBytes, len(info.KeyIDs), trial, err)
	}
}
