package keydb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// The limits of the mock, which are those of kmclient's.
const (
	mockKeySize    = 256     // bits
	mockMinKeySize = 8       // bits
	mockMaxKeySize = 1 << 20 // bits
	mockMaxKeys    = 255     // keys a request
)

// Mock is a key manager without hardware, as mock.KeyManager is, with its keys
// in a database: for many keys, and many processes that share them. Sender and
// recipient use the same file. There is no secrecy in that: whoever reads the
// file has the keys.
type Mock struct {
	db *DB
}

var (
	_ kmclient.KeyManager = (*Mock)(nil)
	_ kmclient.Lister     = (*Mock)(nil)
)

// NewMock opens the file at path as [Open] does.
func NewMock(ctx context.Context, path string) (*Mock, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: the mock's database needs a path", kmclient.ErrConfig)
	}
	db, err := Open(ctx, path, Options{})
	if err != nil {
		return nil, err
	}
	return &Mock{db}, nil
}

// Close closes the file.
func (m *Mock) Close() error { return m.db.Close() }

// Status reports the limits of the mock, how many keys its file holds and how
// many it has made.
func (m *Mock) Status(ctx context.Context, _ string) (kmclient.Status, error) {
	stored, err := m.db.Count(ctx, "")
	if err != nil {
		return kmclient.Status{}, mockError("status", err)
	}
	generated, err := m.db.generated(ctx)
	if err != nil {
		return kmclient.Status{}, mockError("status", err)
	}
	return kmclient.Status{
		State: "operational", Mode: "simulation", Timestamp: time.Now().Format(time.RFC3339),
		KeySize: mockKeySize, MinKeySize: mockMinKeySize, MaxKeySize: mockMaxKeySize, MaxKeyPerRequest: mockMaxKeys,
		StoredKeys: &stored, KeysGenerated: &generated, OnDemand: true,
		KeyIDBytes: len(mockID(int64(generated)+1<<20, time.Now())),
	}, nil
}

// GetKeys makes keys. They are on disk, durably, before they are returned.
func (m *Mock) GetKeys(ctx context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	if err := checkMockAmount(size, number); err != nil {
		return nil, mockError("get keys", err)
	}
	var keys []*kmclient.Key
	err := m.db.write(ctx, func(c conn) error {
		pool, err := m.db.grow(c, "", number)
		if err != nil {
			return err
		}
		now := time.Now()
		for range number {
			octets := make([]byte, size/8)
			_, _ = rand.Read(octets) // never fails
			id, err := c.insertNumbered(pool, now, octets)
			keys = append(keys, kmclient.NewKey(id, octets))
			if err != nil {
				return err
			}
		}
		return nil
	})
	keys, err = allOrNone(keys, err)
	return keys, mockError("get keys", err)
}

// insertNumbered stores a key under the next ID. The counter never goes back,
// and an ID that is taken already, for whatever reason, is skipped.
func (c conn) insertNumbered(pool int64, now time.Time, octets []byte) (string, error) {
	for {
		var next int64
		err := c.Row([]any{&next},
			"INSERT INTO counters (name, value) VALUES (?, 1) ON CONFLICT DO UPDATE SET value=value+1 RETURNING value", counterGenerated)
		if err != nil {
			return "", err
		}
		id := mockID(next, now)
		if err := c.insert(pool, Grant{}, stateInUse, id, now, octets); !errors.Is(err, ErrExists) {
			return id, err
		}
	}
}

// mockID is the ID of the key with that number, as mock.KeyManager has it.
func mockID(number int64, made time.Time) string {
	return fmt.Sprintf("MOCK-KEY-%08d-%s", number, made.Format("20060102150405"))
}

// KeysByID returns stored keys; they stay in the file, which says then that they
// are used, as mock.KeyManager has it.
func (m *Mock) KeysByID(ctx context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	if err := checkIDs(ids); err != nil {
		return nil, mockError("keys by ID", err)
	}
	keys, err := m.db.Use(ctx, "", ids...)
	if err == nil {
		keys, err = allOrNone(keys, kmclient.CheckKeys(keys, 0, len(ids)))
	}
	return keys, mockError("keys by ID", err)
}

// CloseKey removes a key from the file.
func (m *Mock) CloseKey(ctx context.Context, id string) error {
	err := kmclient.CheckID(id)
	if err == nil {
		err = m.db.Delete(ctx, "", id)
	}
	return mockError("close key", err)
}

// ListKeys returns the keys in the file in the order of their making.
func (m *Mock) ListKeys(ctx context.Context) (infos []kmclient.KeyInfo, err error) {
	for info, err := range m.db.List(ctx, "") {
		if err != nil {
			return nil, mockError("list keys", err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// mockError wraps err, if there is one. A file or a lock that fails now may
// work again, once someone has seen to it.
func mockError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &kmclient.Error{Op: op, Err: err,
		Retry: errors.Is(err, kmclient.ErrStore) || errors.Is(err, kmclient.ErrUnavailable)}
}

// checkMockAmount reports whether the mock makes number keys of size bits.
func checkMockAmount(size, number int) error {
	if err := kmclient.CheckSize(size); err != nil {
		return err
	}
	if size > mockMaxKeySize {
		return fmt.Errorf("%w: key size %d: the mock makes keys of up to %d bits", kmclient.ErrBadRequest, size, mockMaxKeySize)
	}
	if number < 1 || number > mockMaxKeys {
		return fmt.Errorf("%w: %d keys: the mock makes 1 to %d at a time", kmclient.ErrBadRequest, number, mockMaxKeys)
	}
	return nil
}

// checkIDs reports whether ids can be asked for.
func checkIDs(ids []string) error {
	if len(ids) < 1 || len(ids) > kmclient.MaxRequestKeys {
		return fmt.Errorf("%w: %d key IDs: must be 1 to %d", kmclient.ErrBadRequest, len(ids), kmclient.MaxRequestKeys)
	}
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := kmclient.CheckID(id); err != nil {
			return err
		}
		seen[kmclient.CanonicalID(id)] = struct{}{}
	}
	if len(seen) != len(ids) {
		return fmt.Errorf("%w: the same key ID twice", kmclient.ErrBadRequest)
	}
	return nil
}

// mockTime returns when a key was made, if its ID is of the mock's form and
// says so, else the zero time.
func mockTime(id string) time.Time {
	match := regexp.MustCompile(`^MOCK-KEY-\d{8,}-(\d{14})$`).FindStringSubmatch(id)
	if match == nil {
		return time.Time{}
	}
	t, err := time.ParseInLocation("20060102150405", match[1], time.Local)
	if err != nil {
		return time.Time{}
	}
	return t
}
