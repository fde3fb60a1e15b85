package keystore

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/qkdmail/qkdmail/kmclient"
)

// sealed are the records of an engine, sealed with the store key. Several
// processes may use the same ones. The methods may be called from several
// goroutines at the same time.
type sealed struct {
	engine Engine
	source KeySource
	logger *slog.Logger
	recent memory

	compacted atomic.Bool // nothing was overwritten since the engine last gave that up, as far as is known here

	mu      sync.RWMutex
	keys    []StoreKey // those that the source has given
	head    *Record    // the store's own record, as last seen
	id      []byte
	rcptKey []byte              // for recipients; rotation does not change it
	byGen   map[uint32]StoreKey // those of keys that seal records here
	current uint32              // generation that seals new records
}

// head names the record that says which keys seal the others. It is part of
// every change, so that nobody writes under a key that was replaced.
func headName() Name { return Name{Kind: KindStore, ID: "head"} }

// headContent is what the store's own record holds, as JSON. While the store
// key is being changed there are two generations, else one.
type headContent struct {
	Version     int          `json:"version"`
	StoreID     []byte       `json:"store_id"`
	Generations []generation `json:"generations"` // the last one seals new records
}

// A generation is one store key. Check is the key for recipients, sealed with
// it: who can open it has the right store key.
type generation struct {
	Number uint32 `json:"number"`
	Check  []byte `json:"check"`
}

const headVersion = 1

// openSealed opens the records of an engine, or prepares one that is empty. If none
// of the keys of source is that of the store, the error is an ErrStoreKey.
func openSealed(ctx context.Context, engine Engine, source KeySource, logger *slog.Logger) (*sealed, error) {
	v := &sealed{engine: engine, source: source, logger: logger}
	return v, v.open(ctx)
}

func (v *sealed) open(ctx context.Context) error {
	if l := v.engine.Limits(); l.Changes < 8 || l.Octets < 1<<20+64<<10 {
		return fmt.Errorf("%w: engine with limits %+v", kmclient.ErrConfig, l)
	}
	head, err := v.readHead(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	err = v.readKeys(head == nil)
	v.mu.Unlock()
	if err != nil {
		return err
	}
	if head == nil {
		if err := v.create(ctx); err != nil {
			return err
		}
	}
	return v.reload(ctx)
}

// readKeys takes the keys that the source gives now. The lock is held.
func (v *sealed) readKeys(fresh bool) error {
	keys, err := v.source(fresh)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if len(k.octets) != storeKeySize {
			return fmt.Errorf("%w: store key of %d octets, must be %d", kmclient.ErrConfig, len(k.octets), storeKeySize)
		}
		v.addKey(k)
	}
	if len(v.keys) == 0 {
		return fmt.Errorf("%w: no store key", kmclient.ErrConfig)
	}
	return nil
}

// addKey makes a key known, a copy of it, since Close wipes those. The lock is
// held.
func (v *sealed) addKey(k StoreKey) {
	if !slices.ContainsFunc(v.keys, func(o StoreKey) bool { return bytes.Equal(o.octets, k.octets) }) {
		v.keys = append(v.keys, StoreKey{bytes.Clone(k.octets)})
	}
}

// readHead returns the store's own record, nil if the store is empty.
func (v *sealed) readHead(ctx context.Context) (*Record, error) {
	records, err := v.engine.Get(ctx, headName())
	if err != nil || records[0] != nil {
		return first(records), err
	}
	any, err := v.engine.List(ctx, Name{}, 1)
	if err != nil || len(any) == 0 {
		return nil, err
	}
	if records, err = v.engine.Get(ctx, headName()); err == nil && records[0] == nil { // not just made by another process
		err = fmt.Errorf("%w: there are records, but not the one that says how they are sealed", ErrRecord)
	}
	return first(records), err
}

func first(records []*Record) *Record {
	if len(records) == 0 {
		return nil
	}
	return records[0]
}

// create prepares an empty store. Another process may be faster.
func (v *sealed) create(ctx context.Context) error {
	secret := make([]byte, 16+sha256.Size)
	_, _ = rand.Read(secret) // never fails
	c := headContent{Version: headVersion, StoreID: secret[:16]}
	check, err := v.keys[0].seal(c.StoreID, 1, headName(), 0, secret[16:])
	if err != nil {
		return err
	}
	c.Generations = []generation{{Number: 1, Check: check}}
	if err := v.writeHead(ctx, nil, c); !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

func (v *sealed) writeHead(ctx context.Context, old *Record, c headContent) error {
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return v.engine.Apply(ctx, Change{Old: old, New: &Record{Name: headName(), Value: value}})
}

// reload reads the store's own record and finds the keys that it speaks of. If
// it has none, the source may have it by now.
func (v *sealed) reload(ctx context.Context) error {
	head, err := v.readHead(ctx)
	if err != nil {
		return err
	}
	if head == nil {
		return fmt.Errorf("%w: the store was emptied", ErrRecord)
	}
	c, err := decodeHead(head)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.id != nil && !bytes.Equal(v.id, c.StoreID) {
		return fmt.Errorf("%w: another store has taken its place", ErrRecord)
	}
	byGen, rcptKey := v.match(c)
	if len(byGen) < len(c.Generations) {
		if err := v.readKeys(false); err != nil {
			return err
		}
		byGen, rcptKey = v.match(c)
	}
	if missing := len(c.Generations) - len(byGen); missing > 0 {
		if len(byGen) > 0 {
			return fmt.Errorf("%w: the store key was being changed and that has not ended: both keys are needed", ErrStoreKey)
		}
		return fmt.Errorf("%w: the store was made, or its key changed, with another one; or its first record is damaged, and a backup may have it whole", ErrStoreKey)
	}
	v.head, v.id, v.rcptKey, v.byGen = head, c.StoreID, rcptKey, byGen
	v.current = c.Generations[len(c.Generations)-1].Number
	return nil
}

// follow takes note of the store's own record, as just read: another process may
// have changed the store key since.
func (v *sealed) follow(ctx context.Context, head *Record) error {
	v.mu.RLock()
	same := head != nil && head.Version == v.head.Version
	v.mu.RUnlock()
	if same {
		return nil
	}
	return v.reload(ctx)
}

// ready reports whether something can be stored that can't be had again, as far
// as the store key is concerned.
func (v *sealed) ready(ctx context.Context) error {
	_, err := v.getReady(ctx)
	return err
}

// match finds the keys of the generations of a store, as far as they are known.
func (v *sealed) match(c headContent) (byGen map[uint32]StoreKey, rcptKey []byte) {
	byGen = map[uint32]StoreKey{}
	for _, g := range c.Generations {
		for _, k := range v.keys {
			if _, plain, err := k.unseal(c.StoreID, headName(), g.Check); err == nil && len(plain) == sha256.Size {
				byGen[g.Number], rcptKey = k, plain
				break
			}
		}
	}
	return byGen, rcptKey
}

func decodeHead(r *Record) (c headContent, err error) {
	if err := json.Unmarshal(r.Value, &c); err != nil {
		return c, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	if c.Version > headVersion {
		return c, fmt.Errorf("%w: the store is of version %d, and this program knows %d: a newer one can read it, or this one an older backup", kmclient.ErrStore, c.Version, headVersion)
	}
	if c.Version < 1 || len(c.StoreID) != 16 || len(c.Generations) < 1 || len(c.Generations) > 2 {
		return c, fmt.Errorf("%w: %v", ErrRecord, r.Name)
	}
	for _, g := range c.Generations {
		if n, err := generationOf(g.Check); err != nil || n != g.Number {
			return c, fmt.Errorf("%w: %v", ErrRecord, r.Name)
		}
	}
	return c, nil
}

// compact has the engine give up what was overwritten, unless it has done so
// since. What is in use now is left to a later call.
func (v *sealed) compact(ctx context.Context) error {
	if v.compacted.Swap(true) {
		return nil
	}
	err := v.engine.Compact(ctx)
	if err != nil {
		v.compacted.Store(false)
	}
	if errors.Is(err, ErrUncompacted) {
		v.logger.Info("what was overwritten in the key store is still in use; the next sweep tries again to give it up", "reason", err)
		return nil
	}
	return err
}

// close closes the engine and wipes the store keys.
func (v *sealed) close() error {
	err := v.engine.Close()
	v.recent.clear()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.keys {
		clear(k.octets)
	}
	clear(v.rcptKey)
	return err
}

// recipient returns how a recipient of a message is recorded. Its domain counts
// in lower case.
func (v *sealed) recipient(identity []byte, rcpt string) (sum [rcptSize]byte) {
	if at := strings.LastIndexByte(rcpt, '@'); at >= 0 {
		rcpt = rcpt[:at] + strings.ToLower(rcpt[at:])
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	h := hmac.New(sha256.New, v.rcptKey)
	_, _ = h.Write(identity)
	_, _ = h.Write([]byte(rcpt))
	copy(sum[:], h.Sum(nil))
	return sum
}
