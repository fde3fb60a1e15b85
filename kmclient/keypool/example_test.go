package keypool_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

// One request to the key manager brings keys for many messages.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "mock")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	km, err := mock.New(mock.Options{Path: filepath.Join(dir, "keys.json")})
	if err != nil {
		fmt.Println(err)
		return
	}
	pool, err := keypool.New(km, keypool.Options{Batch: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for range 50 {
		keys, err := pool.GetKeys(ctx, "SAE_B", 256, 1)
		if err != nil {
			fmt.Println(err)
			return
		}
		kmclient.WipeAll(keys) // after encrypting a message
	}
	if err := pool.Close(ctx); err != nil {
		fmt.Println(err)
	}
	s := pool.Stats()
	fmt.Println(s.Requests, "request for", s.Fetched, "keys:", s.Served, "given out,", s.Discarded, "wiped")
	// Output: 1 request for 100 keys: 50 given out, 50 wiped
}
