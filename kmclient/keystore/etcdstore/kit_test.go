package etcdstore_test

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A linkKM is one end of a QKD link: the octets of a key follow from its ID. It
// gives out sending keys with new IDs.
type linkKM struct{}

func octetsOf(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:]
}

func (linkKM) DeletesOnDelivery() bool { return true }

func (linkKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, nil
}

func (linkKM) CloseKey(context.Context, string) error { return nil }

func (linkKM) GetKeys(_ context.Context, _ string, _, number int) (keys []*kmclient.Key, err error) {
	for range number {
		id := uuid.NewString()
		keys = append(keys, kmclient.NewKey(id, octetsOf(id)))
	}
	return keys, nil
}

func (linkKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		keys = append(keys, kmclient.NewKey(id, octetsOf(id)))
	}
	return keys, nil
}

func identity(s string) cipher.Identity { return sha256.Sum256([]byte(s)) }

// manager returns one on a store, which is sealed with the key in a file that is
// made with the store.
func manager(s keystore.Store, key string, now func() time.Time) (*keystore.Manager, error) {
	v, err := keystore.Open(context.Background(), s, keystore.MadeKeyFile(key, nil), nil)
	if err != nil {
		return nil, err
	}
	return keystore.New(linkKM{}, v, keystore.Options{KM: "km", SAE: "B", Now: now})
}

// message does all that one message costs: three transactions.
func message(m *keystore.Manager, id string) error {
	keys, err := m.KeysByID(context.Background(), "A", id)
	if err != nil {
		return err
	}
	kmclient.WipeAll(keys)
	if err := m.BindKeys(context.Background(), "A", identity(id), 0, id); err != nil {
		return err
	}
	return m.RecordDelivered(context.Background(), id, "someone@example.org")
}
