// Package mock is a key manager without hardware, for development, demonstrations
// and tests. It keeps random keys in one JSON file, which sender and recipient share.
package mock

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// DefaultPath is the file of a mock whose Options name no other. The reference system
// uses the same path.
const DefaultPath = "instance/mock_qkd_keys.json"

const (
	keySize     = 256              // bits, the default
	minKeySize  = 8                // bits
	maxKeySize  = 1 << 20          // bits
	maxKeys     = 255              // per request
	manyKeys    = 10_000           // more keys than this in the file are worth a warning
	manyBytes   = 16 << 20         // likewise, the size of the file
	lockTimeout = 30 * time.Second // to wait for other processes
	noteTimeout = time.Second      // to record that a key is used
)

// Options say where a mock keeps its keys.
type Options struct {
	Path   string       // of the file; DefaultPath if empty
	Logger *slog.Logger // gets a warning when the file is large; may be nil
}

// A KeyManager makes keys with crypto/rand and keeps them in a file in the format of
// the reference system. Several processes may use the file at the same time. It keeps
// nothing secret: whoever reads the file has the keys.
//
// Don't share the file with a running MockQKDClient of the reference system, which
// reads it once and then overwrites it: keys that others have added are lost.
//
// Each change replaces the whole file atomically, so it is meant for a few thousand
// keys at most. If the file can't be read, the error is kmclient.ErrStore and the file
// stays as it is. The file is created with the first key.
type KeyManager struct {
	turn     chan struct{} // holds a token; whoever takes it may use store and warned
	store    *fileStore
	warned   bool
	logger   *slog.Logger
	lockWait time.Duration
}

var (
	_ kmclient.KeyManager = (*KeyManager)(nil)
	_ kmclient.Lister     = (*KeyManager)(nil)
)

// New returns a mock on a file, which need not exist. It neither reads nor writes it.
func New(o Options) (*KeyManager, error) {
	if o.Path == "" {
		o.Path = DefaultPath
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: mock file: %w", kmclient.ErrConfig, err)
	}
	// A link is resolved, so that all processes use the same lock, and a write
	// replaces the file and not the link.
	path = resolve(path, maxLinks)
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

// maxLinks is the number of symbolic links that are followed to a file that does not
// exist.
const maxLinks = 40

// resolve returns the file that path leads to, even if it does not exist yet.
func resolve(path string, links int) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	target, err := os.Readlink(path)
	if err != nil || links == 0 {
		return path
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	return resolve(target, links-1)
}

// Status returns the limits of the mock, how many keys its file holds and how many it
// has made.
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

// GetKeys makes keys, which are safely on disk when it returns.
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

// KeysByID returns stored keys, which stay in the file. Those made by a mock become
// used, if the file can be written.
func (m *KeyManager) KeysByID(ctx context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	if err := kmclient.CheckIDs(ids); err != nil {
		return nil, &kmclient.Error{Op: "keys by ID", Err: err}
	}
	var keys, first []*kmclient.Key // first: made by a mock, and fetched for the first time
	err := m.read(ctx, "keys by ID", func(f *keyFile) error {
		for _, id := range ids {
			k := f.copyOf(id)
			if k == nil {
				return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
			}
			keys = append(keys, k)
			if held, _ := f.find(id); held.state == kmclient.StateInUse {
				first = append(first, k)
			}
		}
		return kmclient.CheckKeys(keys, 0, len(ids))
	})
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	if len(first) > 0 {
		m.noteUsed(ctx, first)
	}
	return keys, nil
}

// noteUsed sets the state of keys that were fetched by their IDs, here and in the file.
// If the file stays locked, the keys are returned all the same.
func (m *KeyManager) noteUsed(ctx context.Context, keys []*kmclient.Key) {
	for _, k := range keys {
		k.SetState(kmclient.StateUsed)
	}
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	err := m.change(ctx, "keys by ID", func(f *keyFile) error {
		changed := false
		for _, k := range keys {
			changed = f.setState(k.ID(), kmclient.StateUsed) || changed
		}
		if !changed {
			return errUnchanged // by another process, which may also have closed the keys
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		m.logger.Debug("the mock key manager could not note that keys are used", "error", err)
	}
}

// errUnchanged keeps change from writing a file that it would not change.
var errUnchanged = errors.New("nothing to write")

// CloseKey removes a key from the file.
func (m *KeyManager) CloseKey(ctx context.Context, id string) error {
	if err := kmclient.CheckID(id); err != nil {
		return &kmclient.Error{Op: "close key", Err: err}
	}
	if !m.store.exists() { // a change would create it
		return &kmclient.Error{Op: "close key", Err: fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)}
	}
	return m.change(ctx, "close key", func(f *keyFile) error {
		if !f.remove(id) {
			return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		return nil
	})
}

// DeletesOnDelivery returns false: a key stays in the file until it is closed.
func (m *KeyManager) DeletesOnDelivery() bool { return false }

// ListKeys returns the keys in the file, oldest first. A key is in_use when it is made,
// used once it was fetched by its ID, and stored if another program put it into the
// file. Its time is zero if its ID is not the mock's.
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

// read calls use with the content of the file. That needs no lock between processes:
// the file is replaced as a whole.
func (m *KeyManager) read(ctx context.Context, op string, use func(*keyFile) error) error {
	return m.inTurn(ctx, op, func(context.Context) error {
		f, err := m.store.load()
		if err != nil {
			return err
		}
		return use(f)
	})
}

// change calls edit with the content of the file and writes the result, while no other
// process can change the file. If edit fails, nothing is written, so it must fail
// before it changes anything.
func (m *KeyManager) change(ctx context.Context, op string, edit func(*keyFile) error) error {
	return m.inTurn(ctx, op, func(ctx context.Context) error {
		unlock, err := m.store.lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		f, err := m.store.load()
		if err != nil {
			return err
		}
		if err := edit(f); err != nil {
			return err
		}
		size, err := m.store.save(f)
		if err == nil && !m.warned && (len(f.keys) > manyKeys || size > manyBytes) {
			m.warned = true
			m.logger.Warn("the mock key manager's file is large: it is meant for small use",
				"path", m.store.path, "keys", len(f.keys), "bytes", size)
		}
		return err
	})
}

// errBusy is the cause when inTurn's time ends.
var errBusy = errors.New("the key file stays locked by another process")

// inTurn calls do while no other goroutine uses the store. The error says to retry if
// it may pass once the file or its lock is usable again.
func (m *KeyManager) inTurn(ctx context.Context, op string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.lockWait, errBusy)
	defer cancel()
	err := m.take(ctx)
	if err == nil {
		defer func() { m.turn <- struct{}{} }()
		err = do(ctx)
	}
	if err == nil {
		return nil
	}
	return &kmclient.Error{Op: op, Err: err, Retry: errors.Is(err, kmclient.ErrStore) || errors.Is(err, kmclient.ErrUnavailable)}
}

// take waits for the token.
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

// checkAmount reports whether the mock can make number keys of size bits at a time.
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
