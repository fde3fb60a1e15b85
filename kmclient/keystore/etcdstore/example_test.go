package etcdstore_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// One of several receiving relays, each with the same store and store key.
func Example() {
	ctx := context.Background()
	options, err := etcdstore.ParseURL("etcd://etcd1:2379,etcd2:2379,etcd3:2379/qkdmail")
	if err != nil {
		log.Fatal(err)
	}
	options.CAFile, options.CertFile, options.KeyFile = "ca.crt", "relay.crt", "relay.key"
	store, err := etcdstore.Open(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	vault, err := keystore.Open(ctx, store, keystore.KeyFile("store.key"), slog.Default())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = vault.Close() }()
	keys, err := keystore.New(&storetest.Link{}, vault, keystore.Options{KM: "main", SAE: "SAE-B"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = keys.Close(ctx) }()
	go keys.SweepEvery(ctx, 10*time.Minute)
	// keys is what a relay receives with; see the example of keystore/sqlite.
}

func ExampleParseURL() {
	for _, url := range []string{"etcd://etcd1,etcd2:12379/mail/site-b", "etcd://me:secret@etcd1"} {
		o, err := etcdstore.ParseURL(url)
		fmt.Println(o.Endpoints, o.Prefix, err)
	}
	// Output:
	// [etcd1:2379 etcd2:12379] /mail/site-b <nil>
	// []  key manager configuration: an etcd URL holds no user and no password: they are given apart from it
}
