package keydb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keydb"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "keydb")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	db, err := keydb.Open(ctx, filepath.Join(dir, "keys.db"), keydb.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()

	// SAE_A has got this key, and SAE_B may fetch it, once.
	key := kmclient.NewKey("9b42e9e2-0000-4000-8000-000000000001", []byte("eight or more octets"))
	grant := keydb.Grant{Master: "SAE_A", Readers: []string{"SAE_B"}}
	if err := db.Put(ctx, "SAE_A/SAE_B", grant, key); err != nil {
		fmt.Println(err)
		return
	}
	claim := keydb.Claim{Master: "SAE_A", Reader: "SAE_B"}
	for range 2 {
		keys, err := db.Fetch(ctx, claim, key.ID())
		fmt.Println(len(keys), err)
	}
	// Output:
	// 1 <nil>
	// 0 key not found: 9b42e9e2-0000-4000-8000-000000000001
}
