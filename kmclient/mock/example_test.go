package mock_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

// Sender and recipient each have a mock on the same file.
func Example() {
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
	ctx := context.Background()
	sent, err := km.GetKeys(ctx, "", 256, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(sent)
	received, err := km.KeysByID(ctx, "", sent[1].ID())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(received)
	fmt.Println(len(sent), "keys of", sent[0].Size(), "bits; the second again:", received[0].ID() == sent[1].ID())
	// Output: 2 keys of 256 bits; the second again: true
}
