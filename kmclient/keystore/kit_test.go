package keystore_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

// A fakeKM is both ends of a QKD link. It deletes a key when it gives it to the
// receiver, unless keeps is set.
type fakeKM struct {
	keeps bool

	mu       sync.Mutex
	keys     map[string][]byte
	calls    int // of KeysByID
	given    int // receiving keys given out
	out      []*kmclient.Key
	closed   []string
	next     []string            // IDs to give out next
	failing  error               // what KeysByID and CloseKey return
	delay    chan struct{}       // KeysByID waits for it, if not nil
	getting  func()              // GetKeys calls it first, if not nil
	finding  func(ids ...string) // KeysByID calls it first, if not nil
	reorder  bool                // KeysByID gives its keys in the wrong order
	limit    int                 // keys per request, as Status says
	statuses int                 // how often it was asked for
	noStatus error               // what Status returns
}

func newKM() *fakeKM { return &fakeKM{keys: map[string][]byte{}} }

func (f *fakeKM) DeletesOnDelivery() bool { return !f.keeps }

func (f *fakeKM) Status(context.Context, string) (kmclient.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses++
	return kmclient.Status{KeySize: 256, MaxKeyPerRequest: f.limit}, f.noStatus
}

func (f *fakeKM) GetKeys(_ context.Context, _ string, size, number int) (keys []*kmclient.Key, err error) {
	if f.getting != nil {
		f.getting()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for range number {
		secret := make([]byte, size/8)
		_, _ = rand.Read(secret)
		id := uuid.NewString()
		if len(f.next) > 0 {
			id, f.next = f.next[0], f.next[1:]
		}
		f.keys[id] = secret
		keys = append(keys, kmclient.NewKey(id, slices.Clone(secret)))
	}
	return keys, nil
}

func (f *fakeKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	if f.finding != nil {
		f.finding(ids...)
	}
	f.mu.Lock()
	delay := f.delay
	f.mu.Unlock()
	if delay != nil {
		<-delay
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.failing != nil {
		return nil, f.failing
	}
	for _, id := range ids {
		if f.keys[kmclient.CanonicalID(id)] == nil {
			return nil, &kmclient.Error{Op: "keys by ID", Err: kmclient.ErrKeyNotFound}
		}
	}
	for _, id := range ids {
		c := kmclient.CanonicalID(id)
		keys = append(keys, kmclient.NewKey(c, slices.Clone(f.keys[c])))
		f.out = append(f.out, keys[len(keys)-1])
		f.given++
		if !f.keeps {
			delete(f.keys, c)
		}
	}
	if f.reorder {
		slices.Reverse(keys)
	}
	return keys, nil
}

func (f *fakeKM) CloseKey(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing != nil {
		return f.failing
	}
	f.closed = append(f.closed, id)
	delete(f.keys, id)
	return nil
}

// A clock is one that can be set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A kit is a store in memory for the keys of a fake key manager.
type kit struct {
	*testing.T
	*keystore.Store
	km     *fakeKM
	mem    *memory.Records
	engine *faulty // of the store opened last
	key    keystore.StoreKey
	clock  *clock
	log    *syncBuilder
	bound  sync.Map // the identities of messages, by the keys that bind has bound to them
}

func newKit(t *testing.T, change func(*kit, *keystore.Options)) *kit {
	k := &kit{T: t, km: newKM(), mem: memory.New(), key: keystore.NewStoreKey(),
		clock: &clock{now: time.Date(2025, 5, 6, 7, 8, 9, 0, time.UTC)}, log: &syncBuilder{}}
	k.Store = k.another(change)
	return k
}

// another returns a store on the same records, as in another process.
func (k *kit) another(change func(*kit, *keystore.Options)) *keystore.Store {
	k.Helper()
	return k.before(k.km, change)
}

// before is another, but for the keys of km.
func (k *kit) before(km kmclient.KeyManager, change func(*kit, *keystore.Options)) *keystore.Store {
	k.Helper()
	k.engine = &faulty{Engine: k.mem.Open(nil)}
	o := keystore.Options{
		Engine: k.engine, Key: keystore.Keys(k.key), KM: "km", SAE: "B",
		SweepEvery: -1, Now: k.clock.Now, Logger: k.logger(),
	}
	if change != nil {
		change(k, &o)
	}
	s, err := keystore.Open(k.Context(), km, o)
	if err != nil {
		k.Fatal(err)
	}
	return s
}

func (k *kit) logger() *slog.Logger { return slog.New(slog.NewTextHandler(k.log, nil)) }

// sent returns IDs of keys that were used to encrypt.
func (k *kit) sent(n int) (ids []string) {
	k.Helper()
	keys, err := k.km.GetKeys(k.Context(), "B", 256, n)
	if err != nil {
		k.Fatal(err)
	}
	for _, key := range keys {
		ids = append(ids, key.ID())
	}
	return ids
}

// get fetches keys and checks that they are the link's.
func (k *kit) get(m *keystore.Store, ids ...string) []*kmclient.Key {
	k.Helper()
	keys, err := m.KeysByID(k.Context(), "A", ids...)
	if err != nil || len(keys) != len(ids) {
		k.Fatalf("%d keys, %v", len(keys), err)
	}
	for i, key := range keys {
		if key.ID() != ids[i] {
			k.Errorf("asked for %s, got %s", ids[i], key.ID())
		}
	}
	return keys
}

func (k *kit) bind(m *keystore.Store, identity string, ids ...string) {
	k.Helper()
	if err := m.BindKeys(k.Context(), "A", id(identity), 0, ids...); err != nil {
		k.Fatal(err)
	}
	for _, key := range ids {
		k.bound.Store(key, id(identity))
	}
}

// message returns the identity of the message that bind bound a key to.
func (k *kit) message(keyID string) kmclient.Identity {
	identity, _ := k.bound.Load(keyID)
	found, _ := identity.(kmclient.Identity)
	return found
}

func (k *kit) deliver(m *keystore.Store, keyID string, rcpts ...string) {
	k.Helper()
	if err := m.RecordDelivered(k.Context(), "A", k.message(keyID), keyID, rcpts...); err != nil {
		k.Fatal(err)
	}
}

func (k *kit) sweep(m *keystore.Store) {
	k.Helper()
	if err := m.Sweep(k.Context()); err != nil {
		k.Fatal(err)
	}
}

// show describes a key that at most one peer has.
func (k *kit) show(m *keystore.Store, id string) (keystore.Info, error) {
	k.Helper()
	infos, err := m.Show(k.Context(), id)
	if err != nil {
		return keystore.Info{}, err
	}
	if len(infos) != 1 {
		k.Fatalf("%d keys have the ID %s, want one", len(infos), id)
	}
	return infos[0], nil
}

func (k *kit) state(id string) kmclient.State {
	k.Helper()
	info, err := k.show(k.Store, id)
	if errors.Is(err, kmclient.ErrKeyNotFound) {
		return ""
	}
	if err != nil {
		k.Fatal(err)
	}
	return info.State
}

func (k *kit) wantState(id string, want kmclient.State) {
	k.Helper()
	if got := k.state(id); got != want {
		k.Errorf("%s is %q, want %q", id, got, want)
	}
}

// want checks an error, and whether trying again helps.
func (k *kit) want(err, sentinel error, retry bool) {
	k.Helper()
	e, ok := errors.AsType[*kmclient.Error](err)
	if !errors.Is(err, sentinel) || !ok || e.Retry != retry {
		k.Errorf("got %v (%+v), want %v, retry %v", err, e, sentinel, retry)
	}
}

func id(s string) kmclient.Identity { return sha256.Sum256([]byte(s)) }

// A faulty engine fails when told to.
type faulty struct {
	engine.Engine
	mu   sync.Mutex
	fail error         // of Apply
	lost bool          // Apply is done, but its answer lost
	slow time.Duration // how long Apply takes when it fails
	n    int           // calls of Apply
	gets int           // Gets

	compacted int   // how often Compact was called
	compact   error // what it returns
}

func (f *faulty) set(err error, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.lost = err, lost
}

func (f *faulty) applies() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// calls returns how many calls of Get and Apply there were.
func (f *faulty) calls() (gets, applies int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets, f.n
}

func (f *faulty) Get(ctx context.Context, names ...engine.Name) ([]*engine.Record, error) {
	f.mu.Lock()
	f.gets++
	f.mu.Unlock()
	return f.Engine.Get(ctx, names...)
}

func (f *faulty) Apply(ctx context.Context, changes ...engine.Change) error {
	f.mu.Lock()
	err, lost, slow := f.fail, f.lost, f.slow
	f.n++
	f.mu.Unlock()
	if err != nil {
		time.Sleep(slow)
	}
	if err == nil || lost {
		if err := f.Engine.Apply(ctx, changes...); err != nil {
			return err
		}
	}
	return err
}

func (f *faulty) Compact(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.compacted++
	return f.compact
}

var errDisk = fmt.Errorf("%w: the disk is full", kmclient.ErrStore)

// A syncBuilder can be written to by several goroutines.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
