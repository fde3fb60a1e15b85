package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

// A recipient that keeps its keys in a file, with the store key beside it.
func Example() {
	dir, err := os.MkdirTemp("", "keystore")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, path := context.Background(), filepath.Join(dir, "keys.db")

	engine, err := sqlite.Open(ctx, path, sqlite.Options{})
	check(err)
	km, err := mock.New(mock.Options{Path: filepath.Join(dir, "km.json")}) // in real use, etsi014.New or rest.New
	check(err)
	keys, err := keystore.Open(ctx, km, keystore.Options{
		Engine: engine,
		Key:    keystore.KeyFile(path+".key", nil),
		SAE:    "SAE_B",
	})
	check(err)
	defer func() { check(keys.Close(ctx)) }()

	r, err := cipher.Decrypt(ctx, encrypted(km, "Hello Bob"), keys, &cipher.DecryptOptions{
		Binder: keys, SAE: "SAE_B", Peers: []string{"SAE_A"},
	})
	check(err)
	message, err := io.ReadAll(r)
	check(err)
	fmt.Printf("%s\n", message) // to Bob, and then:
	info := r.Info()
	check(keys.RecordDelivered(ctx, info.SenderSAE, info.Identity, info.KeyID, "bob@example.org"))

	has, err := keys.Delivered(ctx, info.SenderSAE, info.Identity, info.KeyID, "bob@example.org", "carol@example.org")
	fmt.Println(has, err)
	// Output:
	// Hello Bob
	// [true false] <nil>
}

// encrypted returns a message from SAE_A to SAE_B.
func encrypted(km kmclient.KeyManager, message string) io.Reader {
	var b bytes.Buffer
	w, err := cipher.Encrypt(context.Background(), &b, km, &cipher.EncryptOptions{SAE: "SAE_A", Peer: "SAE_B"})
	check(err)
	_, err = io.WriteString(w, message)
	check(errors.Join(err, w.Close()))
	return &b
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A second message under the same key is refused, whoever receives it.
func ExampleStore_BindKeys() {
	ctx := context.Background()
	keys, err := keystore.Open(ctx, &storetest.Link{}, keystore.Options{
		Engine: memory.New().Open(nil), Key: keystore.Keys(keystore.NewStoreKey()), SAE: "SAE_B",
	})
	check(err)
	defer func() { check(keys.Close(ctx)) }()
	_, err = keys.KeysByID(ctx, "SAE_A", "key-1")
	check(err)
	fmt.Println(keys.BindKeys(ctx, "SAE_A", id("a message"), 0, "key-1"))
	fmt.Println(keys.BindKeys(ctx, "SAE_A", id("a message"), 0, "key-1"))
	fmt.Println(errors.Is(keys.BindKeys(ctx, "SAE_A", id("a copied key ID"), 0, "key-1"), keystore.ErrBound))
	// Output:
	// <nil>
	// <nil>
	// true
}

func ExampleParsePolicy() {
	p, err := keystore.ParsePolicy("after:14d")
	fmt.Println(p, err)
	// Output: after:336h0m0s <nil>
}
