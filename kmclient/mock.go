package kmclient

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
)

// DefaultMockPath is the file of a mock that is given no other: where the
// reference system has it.
const DefaultMockPath = "instance/mock_qkd_keys.json"

// The limits of the mock, which it tells in its Status, and the size of file
// above which it warns.
const (
	mockKeySize     = 256     // bits
	mockMinKeySize  = 8       // bits
	mockMaxKeySize  = 1 << 20 // bits
	mockMaxKeys     = 255     // keys a request
	mockManyKeys    = 10_000
	mockManyOctets  = 16 << 20
	mockLockTimeout = 30 * time.Second
	mockNoteTimeout = time.Second // to note that a key is used
)

// MockOptions says where a mock keeps its keys.
type MockOptions struct {
	Path   string       // of the file; DefaultMockPath if empty
	Logger *slog.Logger // for a warning when the file gets large; may be nil
}

// Mock is a key manager without hardware, for development, demonstrations and
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
// meant for some thousand keys. One that can't be read is an ErrStore and is
// left as it is. Nothing is created before the first key is.
type Mock struct {
	store    *mockStore
	logger   *slog.Logger
	warned   bool          // guarded by turn
	turn     chan struct{} // holds one token: whoever has taken it uses the above
	lockWait time.Duration
}

var (
	_ KeyManager = (*Mock)(nil)
	_ Lister     = (*Mock)(nil)
)

// NewMock returns a mock on a file, which need not exist yet; neither reading
// nor writing is done here.
func NewMock(o MockOptions) (*Mock, error) {
	if o.Path == "" {
		o.Path = DefaultMockPath
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: mock file: %w", ErrConfig, err)
	}
	// A link is resolved, so that all who use the file use one lock, and a
	// write replaces the file and not the link.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	m := &Mock{
		store: &mockStore{path: path}, logger: o.Logger,
		turn: make(chan struct{}, 1), lockWait: mockLockTimeout,
	}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	m.turn <- struct{}{}
	return m, nil
}

// Status reports the limits of the mock, how many keys its file holds and how
// many it has made.
func (m *Mock) Status(ctx context.Context, _ string) (s Status, err error) {
	err = m.read(ctx, operationStatus, func(f *mockFile) error {
		s = Status{
			State: "operational", Mode: modeSimulation, Timestamp: time.Now().Format(time.RFC3339),
			KeySize: mockKeySize, MinKeySize: mockMinKeySize, MaxKeySize: mockMaxKeySize, MaxKeyPerRequest: mockMaxKeys,
			StoredKeys: new(len(f.keys)), KeysGenerated: new(int(f.generated)), OnDemand: true,
			KeyIDBytes: len(mockID(f.generated+1<<20, time.Now())),
		}
		return nil
	})
	return s, err
}

// GetKeys makes keys. They are on disk, durably, before they are returned.
func (m *Mock) GetKeys(ctx context.Context, _ string, size, number int) ([]*Key, error) {
	if err := checkMockAmount(size, number); err != nil {
		return nil, &Error{Op: operationGetKeys, Err: err}
	}
	keys := make([]*Key, 0, number)
	err := m.change(ctx, operationGetKeys, func(f *mockFile) error {
		now := time.Now()
		for range number {
			id := f.freshID(now)
			octets := make([]byte, size/8)
			_, _ = rand.Read(octets) // never fails
			f.add(id, octets)
			f.setState(id, StateInUse)
			keys = append(keys, f.copyOf(id))
		}
		return nil
	})
	if err != nil {
		WipeAll(keys)
		return nil, err
	}
	return keys, nil
}

// KeysByID returns stored keys; they stay in the file. If this mock has handed
// them out, and the file can be written, it says then that they are used.
func (m *Mock) KeysByID(ctx context.Context, _ string, ids ...string) ([]*Key, error) {
	if err := checkIDs(ids); err != nil {
		return nil, &Error{Op: operationKeysByID, Err: err}
	}
	var keys, handed []*Key // handed: handed out by this mock, and fetched now for the first time
	err := m.read(ctx, operationKeysByID, func(f *mockFile) error {
		for _, id := range ids {
			k := f.copyOf(id)
			if k == nil {
				return fmt.Errorf("%w: %s", ErrKeyNotFound, id)
			}
			keys = append(keys, k)
			if held, _ := f.find(id); held.state == StateInUse {
				handed = append(handed, k)
			}
		}
		return CheckKeys(keys, 0, len(ids))
	})
	if err != nil {
		WipeAll(keys)
		return nil, err
	}
	if len(handed) > 0 {
		m.noteUsed(ctx, handed)
	}
	return keys, nil
}

// noteUsed writes into the file that keys were fetched by their IDs, unless it
// stays locked: the keys are worth more than the note.
func (m *Mock) noteUsed(ctx context.Context, keys []*Key) {
	for _, k := range keys {
		k.SetState(StateUsed)
	}
	ctx, cancel := context.WithTimeout(ctx, mockNoteTimeout)
	defer cancel()
	err := m.change(ctx, operationKeysByID, func(f *mockFile) error {
		news := false
		for _, k := range keys {
			news = f.setState(k.ID(), StateUsed) || news
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
func (m *Mock) CloseKey(ctx context.Context, id string) error {
	if err := CheckID(id); err != nil {
		return &Error{Op: operationCloseKey, Err: err}
	}
	if !m.store.exists() { // then a change would create it
		return &Error{Op: operationCloseKey, Err: fmt.Errorf("%w: %s", ErrKeyNotFound, id)}
	}
	return m.change(ctx, operationCloseKey, func(f *mockFile) error {
		if !f.remove(id) {
			return fmt.Errorf("%w: %s", ErrKeyNotFound, id)
		}
		return nil
	})
}

// ListKeys returns the keys in the file, in its order, which is that of their
// making. The mock sees no messages: a key is in_use once it was handed out, used
// once somebody has fetched it by its ID, as a recipient does, and stored where
// another program has put it into the file. The time of keys with IDs that the mock has not made is zero.
func (m *Mock) ListKeys(ctx context.Context) (infos []KeyInfo, err error) {
	made := regexp.MustCompile(`^MOCK-KEY-\d{8,}-(\d{14})$`)
	err = m.read(ctx, operationListKeys, func(f *mockFile) error {
		for _, k := range f.keys {
			info := KeyInfo{ID: k.id, Size: len(k.octets) * 8, State: cmp.Or(k.state, StateStored)}
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
func (m *Mock) read(ctx context.Context, op string, use func(*mockFile) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.lockWait, errBusy)
	defer cancel()
	if err := m.take(ctx); err != nil {
		return mockError(op, err)
	}
	defer m.release()
	f, err := m.store.load()
	if err == nil {
		err = use(f)
	}
	return mockError(op, err)
}

// change calls edit with what the file holds and writes what it makes of it,
// while no other process can change the file. Nothing is written if edit
// fails, so it must fail before it changes anything.
func (m *Mock) change(ctx context.Context, op string, edit func(*mockFile) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.lockWait, errBusy)
	defer cancel()
	if err := m.take(ctx); err != nil {
		return mockError(op, err)
	}
	defer m.release()
	unlock, err := m.store.lock(ctx)
	if err != nil {
		return mockError(op, err)
	}
	defer unlock()
	f, err := m.store.load()
	if err != nil {
		return mockError(op, err)
	}
	if err := edit(f); err != nil {
		return mockError(op, err)
	}
	octets, err := m.store.save(f)
	if err != nil {
		return mockError(op, err)
	}
	if !m.warned && (len(f.keys) > mockManyKeys || octets > mockManyOctets) {
		m.warned = true
		m.logger.Warn("the mock key manager's file is large: it is meant for small use",
			"path", m.store.path, "keys", len(f.keys), "octets", octets)
	}
	return nil
}

// errBusy is why an operation of the mock gives up, when it is not its
// caller's context.
var errBusy = errors.New("the key file stays locked by another process")

// take waits for this goroutine's turn.
func (m *Mock) take(ctx context.Context) error {
	if ctx.Err() != nil { // select would choose at random
		return GaveUp(ctx)
	}
	select {
	case <-m.turn:
		return nil
	case <-ctx.Done():
		return GaveUp(ctx)
	}
}

func (m *Mock) release() { m.turn <- struct{}{} }

// mockError wraps err, if there is one. A file or a lock that fails now may
// work again, once someone has seen to it.
func mockError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Err: err, Retry: errors.Is(err, ErrStore) || errors.Is(err, ErrUnavailable)}
}

// checkMockAmount reports whether the mock makes number keys of size bits.
func checkMockAmount(size, number int) error {
	if err := CheckSize(size); err != nil {
		return err
	}
	if size > mockMaxKeySize {
		return fmt.Errorf("%w: key size %d: the mock makes keys of up to %d bits", ErrBadRequest, size, mockMaxKeySize)
	}
	if number < 1 || number > mockMaxKeys {
		return fmt.Errorf("%w: %d keys: the mock makes 1 to %d at a time", ErrBadRequest, number, mockMaxKeys)
	}
	return nil
}
