// Package sealed keeps the records of a key store sealed with the store key,
// whichever engine has them.
package sealed

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
)

var (
	// ErrStoreKey: the store was made with another store key. It wraps
	// kmclient.ErrConfig.
	ErrStoreKey = fmt.Errorf("%w: wrong store key", kmclient.ErrConfig)
	// ErrRecord: a record can't be opened: it is damaged, or was changed by someone
	// without the store key. It wraps kmclient.ErrStore.
	ErrRecord = fmt.Errorf("%w: damaged record; a backup may have it whole", kmclient.ErrStore)
)

// Records are an engine's records, sealed with the store key. Several processes may use
// the same ones. The methods may be called from several goroutines at the same time.
type Records struct {
	Engine engine.Engine

	source    func(fresh bool) ([]storekey.Key, error)
	logger    *slog.Logger
	handed    handover
	compacted atomic.Bool // as far as we know, nothing was overwritten since the engine was last compacted

	mu      sync.RWMutex
	keys    []storekey.Key // all that the source has given
	head    *engine.Record // the store's own record, as last seen
	id      []byte
	rcptKey []byte                  // for recipients; rotation does not change it
	byGen   map[uint32]storekey.Key // the keys that seal records here
	current uint32                  // generation that seals new records
}

// Open opens the records of an engine, or prepares one that is empty. If none of the
// keys from source is the store's, the error is ErrStoreKey.
func Open(ctx context.Context, e engine.Engine, source func(fresh bool) ([]storekey.Key, error), logger *slog.Logger) (*Records, error) {
	s := &Records{Engine: e, source: source, logger: logger}
	if l := e.Limits(); l.Changes < 8 || l.Bytes < 1<<20+64<<10 {
		return nil, fmt.Errorf("%w: engine with limits %+v", kmclient.ErrConfig, l)
	}
	head, err := s.readHead(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	err = s.readKeys(head == nil)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if head == nil {
		if err := s.create(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.reload(ctx)
}

// Close closes the engine and wipes the store keys.
func (s *Records) Close() error {
	err := s.Engine.Close()
	s.handed.clear()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		k.Wipe()
	}
	clear(s.rcptKey)
	return err
}

// readKeys asks the source for keys again. s.mu must be held.
func (s *Records) readKeys(fresh bool) error {
	keys, err := s.source(fresh)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := k.Check(); err != nil {
			return err
		}
		s.addKey(k)
	}
	if len(s.keys) == 0 {
		return fmt.Errorf("%w: no store key", kmclient.ErrConfig)
	}
	return nil
}

// addKey adds a copy of a key, since Close wipes the keys. s.mu must be held.
func (s *Records) addKey(k storekey.Key) {
	if !slices.ContainsFunc(s.keys, k.Equal) {
		s.keys = append(s.keys, k.Clone())
	}
}

// create prepares an empty store. Another process may be faster.
func (s *Records) create(ctx context.Context) error {
	secret := make([]byte, idSize+sha256.Size)
	_, _ = rand.Read(secret) // never fails
	h := head{Version: headVersion, StoreID: secret[:idSize]}
	check, err := s.keys[0].Seal(h.place(), 1, 0, secret[idSize:])
	if err != nil {
		return err
	}
	h.Generations = []generation{{Number: 1, Check: check}}
	if err := s.writeHead(ctx, nil, h); !errors.Is(err, engine.ErrConflict) {
		return err
	}
	return nil
}

// reload reads the store's own record and finds the keys that it names. If one is
// unknown, the source may have it by now.
func (s *Records) reload(ctx context.Context) error {
	record, err := s.readHead(ctx)
	if err != nil {
		return err
	}
	if record == nil {
		return fmt.Errorf("%w: the store was emptied", ErrRecord)
	}
	h, err := decodeHead(record)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != nil && !bytes.Equal(s.id, h.StoreID) {
		return fmt.Errorf("%w: another store has taken its place", ErrRecord)
	}
	byGen, rcptKey := h.match(s.keys)
	if len(byGen) < len(h.Generations) {
		if err := s.readKeys(false); err != nil {
			return err
		}
		byGen, rcptKey = h.match(s.keys)
	}
	if missing := len(h.Generations) - len(byGen); missing > 0 {
		if len(byGen) > 0 {
			return fmt.Errorf("%w: a change of the store key is not complete: both keys are needed", ErrStoreKey)
		}
		return fmt.Errorf("%w: the store was made with another key, or its key was changed; or its first record is damaged, and a backup may have it whole", ErrStoreKey)
	}
	s.head, s.id, s.rcptKey, s.byGen = record, h.StoreID, rcptKey, byGen
	s.current = h.last().Number
	return nil
}

// follow takes note of the store's own record, as just read: another process may
// have changed the store key since.
func (s *Records) follow(ctx context.Context, record *engine.Record) error {
	s.mu.RLock()
	same := record != nil && record.Version == s.head.Version
	s.mu.RUnlock()
	if same {
		return nil
	}
	return s.reload(ctx)
}

// Ready returns an error if the store key rules out storing something that can't be had
// again.
func (s *Records) Ready(ctx context.Context) error {
	_, err := s.GetReady(ctx)
	return err
}

// Overwritten notes that there is something for Compact to remove.
func (s *Records) Overwritten() { s.compacted.Store(false) }

// Compact makes the engine remove overwritten data, unless there is none since the last
// time. What is still in use is left to a later call.
func (s *Records) Compact(ctx context.Context) error {
	if s.compacted.Swap(true) {
		return nil
	}
	err := s.Engine.Compact(ctx)
	if err != nil {
		s.compacted.Store(false)
	}
	if errors.Is(err, engine.ErrUncompacted) {
		s.logger.Info("overwritten data in the key store is still in use; the next sweep tries again to remove it", "reason", err)
		return nil
	}
	return err
}

// RecipientSize is the size of a Recipient.
const RecipientSize = 16

// A Recipient is how a recipient of a message is recorded: as HMAC-SHA256.
type Recipient [RecipientSize]byte

// Recipient returns how a recipient of the message with this identity is recorded, with
// the domain in lower case.
func (s *Records) Recipient(identity kmclient.Identity, rcpt string) (sum Recipient) {
	if at := strings.LastIndexByte(rcpt, '@'); at >= 0 {
		rcpt = rcpt[:at] + strings.ToLower(rcpt[at:])
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := hmac.New(sha256.New, s.rcptKey)
	_, _ = h.Write(identity[:])
	_, _ = h.Write([]byte(rcpt))
	copy(sum[:], h.Sum(nil))
	return sum
}
