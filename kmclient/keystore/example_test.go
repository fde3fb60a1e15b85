package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// The second message under one key is refused, whoever receives it.
func ExampleManager_BindKeys() {
	ctx := context.Background()
	vault, err := keystore.Open(ctx, storetest.NewMemory().Open(), keystore.Keys(keystore.NewStoreKey()), nil)
	if err != nil {
		log.Fatal(err)
	}
	km := newKM() // usually an etsi014.Client
	keys, err := keystore.New(km, vault, keystore.Options{SAE: "B"})
	if err != nil {
		log.Fatal(err)
	}
	sent, err := sentKey(ctx, km)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := keys.KeysByID(ctx, "A", sent); err != nil {
		log.Fatal(err)
	}
	fmt.Println(keys.BindKeys(ctx, "A", id("a message"), 0, sent))
	fmt.Println(keys.BindKeys(ctx, "A", id("a message"), 0, sent))
	fmt.Println(errors.Is(keys.BindKeys(ctx, "A", id("a copied key ID"), 0, sent), keystore.ErrBound))
	// Output:
	// <nil>
	// <nil>
	// true
}

// sentKey returns the ID of a key that the other site has encrypted with.
func sentKey(ctx context.Context, km kmclient.KeyManager) (string, error) {
	keys, err := km.GetKeys(ctx, "B", 256, 1)
	if err != nil {
		return "", err
	}
	return keys[0].ID(), nil
}

func ExampleParsePolicy() {
	p, err := keystore.ParsePolicy("after:14d")
	fmt.Println(p, err)
	// Output: after:336h0m0s <nil>
}
