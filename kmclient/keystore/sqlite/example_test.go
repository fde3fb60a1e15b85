package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// A receiving relay: keys in one file, the store key beside it.
func Example() {
	dir, err := os.MkdirTemp("", "keystore")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	path := filepath.Join(dir, "keys.db")
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		log.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	vault, err := keystore.Open(ctx, store, keystore.MadeKeyFile(path+".key", logger), logger)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = vault.Close() }()
	km := &storetest.Link{} // as a etsi014.Client
	keys, err := keystore.New(km, vault, keystore.Options{KM: "main", SAE: "SAE-B", Logger: logger})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = keys.Close(context.Background()) }()
	go keys.SweepEvery(ctx, 10*time.Minute)

	// cipher.Decrypt does the first two for every message.
	if _, err := keys.KeysByID(ctx, "SAE-A", "key-1"); err != nil {
		log.Fatal(err)
	}
	message := storetest.Identity("a message") // as in cipher.Info
	if err := keys.BindKeys(ctx, "SAE-A", message, 0, "key-1"); err != nil {
		log.Fatal(err)
	}
	if err := keys.RecordDelivered(ctx, "SAE-A", message, "key-1", "bob@example.org"); err != nil {
		log.Fatal(err)
	}
	has, err := keys.Delivered(ctx, "SAE-A", message, "key-1", "bob@example.org", "carol@example.org")
	fmt.Println(has, err)
	// Output: [true false] <nil>
}
