package mailtest

import (
	"context"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// deletingKM gives each key out once by its ID, as ETSI's do.
type deletingKM struct{ *KM }

func (m deletingKM) DeletesOnDelivery() bool { return true }

func (m deletingKM) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	keys, err := m.KM.KeysByID(ctx, peer, ids...)
	if err == nil {
		m.Remove(ids...)
	}
	return keys, err
}

// StartStored runs a decrypt relay with a key store before a key manager that
// deletes keys.
func StartStored(t testing.TB, hop string, o keystore.Options, changes ...func(*config.Config)) (*Relay, *keystore.Store) {
	t.Helper()
	km := NewKM()
	o.Engine, o.Key, o.SAE = storetest.NewMemory().Open(), keystore.Keys(keystore.NewStoreKey()), "SAE_B"
	m, err := keystore.Open(t.Context(), deletingKM{km}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return StartRelayWithKeys(t, km, relay.Keys{Finder: m, Binder: m, Deliveries: m}, mailer.DirectionDecrypt, hop, changes...), m
}
