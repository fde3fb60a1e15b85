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

// shortages remember, for each peer, that there were too few keys for a pad. A long
// pad takes its keys in several requests, and an attempt that runs dry has used up
// what there was: repeated with each delivery attempt of a mail system, it would leave
// no key for other mail.
type shortages struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	byPeer map[string]*shortage // by SAE ID
	noPads map[string]string    // why there is no pad, as it was logged, by SAE ID
}

// A shortage keeps pads that take at least need bytes of key from being tried for a
// while.
type shortage struct {
	need  int64
	dry   bool // the key manager has refused keys; else only its status says so
	until time.Time
	wait  time.Duration
}

// errNotTried is the outcome of a trial that did not get as far as a pad.
var errNotTried = errors.New("no pad was tried")

// How long pads are not tried, at first and at most.
const (
	firstWait = time.Minute
	mostWait  = time.Hour
)

func newShortages(log *slog.Logger) *shortages {
	return &shortages{log: log, now: time.Now, byPeer: map[string]*shortage{}, noPads: map[string]string{}}
}

// check refuses a pad that can't be expected to succeed. Only the key manager's answer to
// a request for keys is certain: the stock in its status, above all a 0, means little if
// keys are made on demand. So the status counts only for pads that take several requests,
// and only mail that may not leave in clear waits because of it. With trial, this is the
// one pad that may be tried after a wait; learn must be called with its outcome.
func (s *shortages) check(peer string, cost cipher.PadCost, status kmclient.Status, opportunistic bool) (trial bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := storedBytes(status)
	d, now := s.byPeer[peer], s.now()
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
		s.byPeer[peer] = &shortage{need: cost.KeyBytes, until: now.Add(firstWait), wait: firstWait}
		return false, fmt.Errorf("%w: a pad takes %d bytes of key and the key manager has %d", kmclient.ErrKeyExhausted, cost.KeyBytes, have)
	}
	return false, nil
}

// storedBytes returns how many bytes of key there are, by a status. known is false if the
// status has no number, or 0, as with many key managers that make keys on demand.
func storedBytes(s kmclient.Status) (n int64, known bool) {
	if s.OnDemand || s.KeySize <= 0 || s.StoredKeys == nil || *s.StoredKeys <= 0 {
		return 0, false
	}
	return int64(*s.StoredKeys) * int64(s.KeySize/8), true
}

// inSeveralRequests reports whether a pad takes more than one request for keys. A key
// manager grants or refuses each as a whole.
func inSeveralRequests(cost cipher.PadCost, s kmclient.Status) bool {
	return cost.Frames > 1 || s.MaxKeyPerRequest > 0 && cost.Keys > int64(s.MaxKeyPerRequest)
}

// learn notes the outcome of an attempt at a pad that takes need bytes of key and for
// which this many keys were given. A trial that again finds too few keys makes the wait
// longer; one that shows nothing, say because its client has gone, leaves the next trial
// to another message.
func (s *shortages) learn(peer string, need int64, keys int, trial bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byPeer[peer]
	switch short := errors.Is(err, kmclient.ErrKeyExhausted); {
	case err == nil && d != nil && need >= d.need:
		delete(s.byPeer, peer)
	case short && keys > 0 && d == nil:
		s.byPeer[peer] = &shortage{need: need, dry: true, until: s.now().Add(firstWait), wait: firstWait}
	case short && d != nil && (keys > 0 || trial):
		if trial {
			d.wait = min(2*d.wait, mostWait)
		}
		d.need, d.dry, d.until = min(need, d.need), d.dry || keys > 0, s.now().Add(d.wait)
	case err != nil && trial && d != nil:
		d.until = s.now()
	}
}

// noPad logs why there is no pad for a peer, unless it has logged that before.
func (s *shortages) noPad(peer string, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := reason.Error(); s.noPads[peer] != text {
		s.noPads[peer] = text
		s.log.Warn("there is no pad for this peer with its key manager; AES-256-GCM is taken instead", "peer_sae", peer, "cause", text)
	}
}

// padCost returns what a pad for the message of a group takes with this many recipients,
// and the key manager's status. known is false if the message gets no pad or has no known
// size.
func (s *encryptSession) padCost(g *group, recipients int) (cost cipher.PadCost, status kmclient.Status, known bool, err error) {
	size := s.opts.Size
	if size == 0 || g.suite.Plain() != cipher.SuiteOTP && (g.suite != cipher.SuiteAuto || size > int64(g.route.PadLimit)) {
		return cost, status, false, nil
	}
	if status, err = g.keys.Status(s.ctx, g.route.Peer.SAE); err != nil {
		return cost, status, false, nil // encryption asks again, and returns the error
	}
	cost, err = cipher.PadCostOf(status, size, recipients)
	if errors.Is(err, cipher.ErrPad) {
		return cost, status, false, nil // encryption finds the same
	}
	return cost, status, err == nil, err
}

// checkSize refuses a message to this many recipients that will be too large for the
// next hop once it is encrypted, before keys are spent on it. A pad of short keys makes it
// nearly three times as long; with suite auto, AES-256-GCM is taken in that case.
func (s *encryptSession) checkSize(g *group, recipients int) error {
	cost, _, known, err := s.padCost(g, recipients)
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

// checkShortage refuses a message for whose pad there are too few keys, before the
// first of them is spent on it.
func (s *encryptSession) checkShortage(g *group) (trial bool, err error) {
	cost, status, known, err := s.padCost(g, len(g.rcpts))
	if err != nil || !known {
		return false, err
	}
	return s.o.shortages.check(g.route.Peer.SAE, cost, status, g.route.Mode == Opportunistic)
}

// learn notes the outcome of an encryption.
func (s *encryptSession) learn(g *group, info *cipher.Info, trial bool, err error) {
	if info.NoPad != nil {
		s.o.shortages.noPad(g.route.Peer.SAE, info.NoPad)
	}
	if info.Suite.Plain() != cipher.SuiteOTP {
		if !trial {
			return
		}
		err = errNotTried
	}
	status, serr := g.keys.Status(s.ctx, g.route.Peer.SAE)
	cost, cerr := cipher.PadCostOf(status, max(s.opts.Size, info.PlaintextSize), len(g.rcpts))
	if serr == nil && cerr == nil {
		s.o.shortages.learn(g.route.Peer.SAE, cost.KeyBytes, len(info.KeyIDs), trial, err)
	}
}
