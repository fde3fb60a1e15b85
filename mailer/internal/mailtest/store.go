package mailtest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// deletingKM gives out each key by its ID only once, as an ETSI KME does.
type deletingKM struct{ *KM }

func (m deletingKM) DeletesOnDelivery() bool { return true }

func (m deletingKM) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	keys, err := m.KM.KeysByID(ctx, peer, ids...)
	if err == nil {
		m.Remove(ids...)
	}
	return keys, err
}

// OpenStore opens a key store for SAE_B, in a file of its own.
func OpenStore(t testing.TB, km kmclient.KeyManager, o keystore.Options) *keystore.Store {
	t.Helper()
	engine, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.Engine, o.Key, o.SAE = engine, keystore.Keys(keystore.NewStoreKey()), "SAE_B"
	s, err := keystore.Open(t.Context(), km, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// StartStored runs a decrypt relay with a key store in front of a key manager that
// deletes keys.
func StartStored(t testing.TB, hop string, o keystore.Options, changes ...func(*config.Config)) (*Relay, *keystore.Store) {
	t.Helper()
	km := NewKM()
	m := OpenStore(t, deletingKM{km}, o)
	return StartRelayWithKeys(t, km, relay.Keys{Finder: m, Binder: m, Deliveries: m}, mailer.DirectionDecrypt, hop, changes...), m
}
