// Package mock is a key manager without hardware: random keys in one JSON file
// that the sending and the receiving side share.
package mock

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// DefaultPath is the file of a mock that is given no other: where the
// reference system has it.
const DefaultPath = "instance/mock_qkd_keys.json"

// The limits of the mock, which it tells in its Status, and the size of file
// above which it warns.
const (
	keySize     = 256     // bits
	minKeySize  = 8       // bits
	maxKeySize  = 1 << 20 // bits
	maxKeys     = 255     // keys a request
	manyKeys    = 10_000
	manyBytes   = 16 << 20
	lockTimeout = 30 * time.Second
	noteTimeout = time.Second // to note that a key is used
)

// Options says where a mock keeps its keys.
type Options struct {
	Path   string       // of the file; DefaultPath if empty
	Logger *slog.Logger // for a warning when the file gets large; may be nil
}

// A KeyManager is a key manager without hardware, for development, demonstrations and
// tests: it makes keys from the system's randomness and keeps them in one JSON
// file, in the reference system's format. Sender and recipient share that
// file, as the two ends of a QKD link share keys; processes may do so at the
// same time. There is no secrecy in that: whoever reads the file has the keys.
//
// The reference system's MockQKDClient reads the file when it starts and never
// again, and then writes all that it knows: keys that others have added meanwhile
// are lost. Don't share a file with one that is running; hand it over.
//
// The file is replaced as a whole, atomically, with every change, so a mock is
// meant for some thousand keys. One that can't be read is a kmclient.ErrStore and is
// left as it is. Nothing is created before the first key is.
type KeyManager struct {
	store    *fileStore
	logger   *slog.Logger
	warned   bool          // guarded by turn
	turn     chan struct{} // holds one token: whoever has taken it uses the above
	lockWait time.Duration
}

var (
	_ kmclient.KeyManager = (*KeyManager)(nil)
	_ kmclient.Lister     = (*KeyManager)(nil)
)

// New returns a mock on a file, which need not exist yet; neither reading
// nor writing is done here.
func New(o Options) (*KeyManager, error) {
	if o.Path == "" {
		o.Path = DefaultPath
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: mock file: %w", kmclient.ErrConfig, err)
	}
	// A link is resolved, so that all who use the file use one lock, and a
	// write replaces the file and not the link.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	m := &KeyManager{
		store: &fileStore{path: path}, logger: o.Logger,
		turn: make(chan struct{}, 1), lockWait: lockTimeout,
	}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	m.turn <- struct{}{}
	return m, nil
}

// Status reports the limits of the mock, how many keys its file holds and how
// many it has made.
func (m *KeyManager) Status(ctx context.Context, _ string) (s kmclient.Status, err error) {
	err = m.read(ctx, "status", func(f *keyFile) error {
		s = kmclient.Status{
			State: "operational", Mode: "simulation", Timestamp: time.Now().Format(time.RFC3339),
			KeySize: keySize, MinKeySize: minKeySize, MaxKeySize: maxKeySize, MaxKeyPerRequest: maxKeys,
			StoredKeys: new(len(f.keys)), KeysGenerated: new(int(f.generated)), OnDemand: true,
			KeyIDBytes: len(keyID(f.generated+1<<20, time.Now())),
		}
		return nil
	})
	return s, err
}

// GetKeys makes keys. They are on disk, durably, before they are returned.
func (m *KeyManager) GetKeys(ctx context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	if err := checkAmount(size, number); err != nil {
		return nil, &kmclient.Error{Op: "get keys", Err: err}
	}
	keys := make([]*kmclient.Key, 0, number)
	err := m.change(ctx, "get keys", func(f *keyFile) error {
		now := time.Now()
		for range number {
			id := f.freshID(now)
			secret := make([]byte, size/8)
			_, _ = rand.Read(secret) // never fails
			f.add(id, secret)
			f.setState(id, kmclient.StateInUse)
			keys = append(keys, f.copyOf(id))
		}
		return nil
	})
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	return keys, nil
}

// KeysByID returns stored keys; they stay in the file. If this mock has handed
// them out, and the file can be written, it says then that they are used.
func (m *KeyManager) KeysByID(ctx context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	if err := kmclient.CheckIDs(ids); err != nil {
		return nil, &kmclient.Error{Op: "keys by ID", Err: err}
	}
	var keys, handed []*kmclient.Key // handed: handed out by this mock, and fetched now for the first time
	err := m.read(ctx, "keys by ID", func(f *keyFile) error {
		for _, id := range ids {
			k := f.copyOf(id)
			if k == nil {
				return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
			}
			keys = append(keys, k)
			if held, _ := f.find(id); held.state == kmclient.StateInUse {
				handed = append(handed, k)
			}
		}
		return kmclient.CheckKeys(keys, 0, len(ids))
	})
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	if len(handed) > 0 {
		m.noteUsed(ctx, handed)
	}
	return keys, nil
}

// noteUsed writes into the file that keys were fetched by their IDs, unless it
// stays locked: the keys are worth more than the note.
func (m *KeyManager) noteUsed(ctx context.Context, keys []*kmclient.Key) {
	for _, k := range keys {
		k.SetState(kmclient.StateUsed)
	}
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	err := m.change(ctx, "keys by ID", func(f *keyFile) error {
		news := false
		for _, k := range keys {
			news = f.setState(k.ID(), kmclient.StateUsed) || news
		}
		if !news {
			return errNoNews // another process has noted it, or closed the keys
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNoNews) {
		m.logger.Debug("the mock key manager could not note that keys are used", "error", err)
	}
}

var errNoNews = errors.New("nothing to note")

// CloseKey removes a key from the file.
func (m *KeyManager) CloseKey(ctx context.Context, id string) error {
	if err := kmclient.CheckID(id); err != nil {
		return &kmclient.Error{Op: "close key", Err: err}
	}
	if !m.store.exists() { // then a change would create it
		return &kmclient.Error{Op: "close key", Err: fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)}
	}
	return m.change(ctx, "close key", func(f *keyFile) error {
		if !f.remove(id) {
			return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		return nil
	})
}

// DeletesOnDelivery is false: a key stays in the file until it is closed.
func (m *KeyManager) DeletesOnDelivery() bool { return false }

// ListKeys returns the keys in the file, in its order, which is that of their
// making. The mock sees no messages: a key is in_use once it was handed out, used
// once somebody has fetched it by its ID, as a recipient does, and stored where
// another program has put it into the file. The time of keys with IDs that the mock has not made is zero.
func (m *KeyManager) ListKeys(ctx context.Context) (infos []kmclient.KeyInfo, err error) {
	made := regexp.MustCompile(`^MOCK-KEY-\d{8,}-(\d{14})$`)
	err = m.read(ctx, "list keys", func(f *keyFile) error {
		for _, k := range f.keys {
			info := kmclient.KeyInfo{ID: k.id, Size: len(k.secret) * 8, State: cmp.Or(k.state, kmclient.StateStored)}
			if match := made.FindStringSubmatch(k.id); match != nil {
				if t, err := time.ParseInLocation("20060102150405", match[1], time.Local); err == nil {
					info.Time = t
				}
			}
			infos = append(infos, info)
		}
		return nil
	})
	return infos, err
}

// read calls use with what the file holds now. That needs no lock between
// processes: a file is there as a whole or not at all.
func (m *KeyManager) read(ctx context.Context, op string, use func(*keyFile) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.lockWait, errBusy)
	defer cancel()
	if err := m.take(ctx); err != nil {
		return opError(op, err)
	}
	defer m.release()
	f, err := m.store.load()
	if err == nil {
		err = use(f)
	}
	return opError(op, err)
}

// change calls edit with what the file holds and writes what it makes of it,
// while no other process can change the file. Nothing is written if edit
// fails, so it must fail before it changes anything.
func (m *KeyManager) change(ctx context.Context, op string, edit func(*keyFile) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.lockWait, errBusy)
	defer cancel()
	if err := m.take(ctx); err != nil {
		return opError(op, err)
	}
	defer m.release()
	unlock, err := m.store.lock(ctx)
	if err != nil {
		return opError(op, err)
	}
	defer unlock()
	f, err := m.store.load()
	if err != nil {
		return opError(op, err)
	}
	if err := edit(f); err != nil {
		return opError(op, err)
	}
	size, err := m.store.save(f)
	if err != nil {
		return opError(op, err)
	}
	if !m.warned && (len(f.keys) > manyKeys || size > manyBytes) {
		m.warned = true
		m.logger.Warn("the mock key manager's file is large: it is meant for small use",
			"path", m.store.path, "keys", len(f.keys), "bytes", size)
	}
	return nil
}

// errBusy is why an operation of the mock gives up, when it is not its
// caller's context.
var errBusy = errors.New("the key file stays locked by another process")

// take waits for this goroutine's turn.
func (m *KeyManager) take(ctx context.Context) error {
	if ctx.Err() != nil { // select would choose at random
		return kmclient.Canceled(ctx)
	}
	select {
	case <-m.turn:
		return nil
	case <-ctx.Done():
		return kmclient.Canceled(ctx)
	}
}

func (m *KeyManager) release() { m.turn <- struct{}{} }

// opError wraps err, if there is one. A file or a lock that fails now may
// work again, once someone has seen to it.
func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &kmclient.Error{Op: op, Err: err, Retry: errors.Is(err, kmclient.ErrStore) || errors.Is(err, kmclient.ErrUnavailable)}
}

// checkAmount reports whether the mock makes number keys of size bits.
func checkAmount(size, number int) error {
	if err := kmclient.CheckSize(size); err != nil {
		return err
	}
	if size > maxKeySize {
		return fmt.Errorf("%w: key size %d: the mock makes keys of up to %d bits", kmclient.ErrBadRequest, size, maxKeySize)
	}
	if number < 1 || number > maxKeys {
		return fmt.Errorf("%w: %d keys: the mock makes 1 to %d at a time", kmclient.ErrBadRequest, number, maxKeys)
	}
	return nil
}
