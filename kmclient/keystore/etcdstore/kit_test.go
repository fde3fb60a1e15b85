package etcdstore_test

import (
	"context"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// manager returns one on a store, which is sealed with the key in a file that is
// made with the store.
func manager(s keystore.Store, key string, now func() time.Time) (*keystore.Manager, error) {
	v, err := keystore.Open(context.Background(), s, keystore.MadeKeyFile(key, nil), nil)
	if err != nil {
		return nil, err
	}
	return keystore.New(&storetest.Link{}, v, keystore.Options{KM: "km", SAE: "B", Now: now})
}
