package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"regexp"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // for another program that has the file open
)

// keyid NAME FILE puts the key ID of an encrypted message into $NAME.
func keyID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keyid NAME FILE")
	}
	m := regexp.MustCompile(`(?m)^Qkdmail-Key-ID: (\S+)`).FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("%s has no key ID", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// deliver STORE SAE ID RECIPIENT… records deliveries of a message like a relay.
func deliver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: deliver STORE SAE ID RECIPIENT…")
	}
	ctx, store := context.Background(), openStore(ts, args[0], args[1], nil)
	infos, err := store.Show(ctx, args[2])
	ts.Check(err)
	message, err := hex.DecodeString(infos[0].Message)
	ts.Check(err)
	ts.Check(store.RecordDelivered(ctx, infos[0].Peer, kmclient.Identity(message), args[2], args[3:]...))
	ts.Check(store.Close(ctx))
}

// receive STORE SAE PEER ID stores a key from a key manager that deletes it on delivery.
func receive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: receive STORE SAE PEER ID")
	}
	ctx, store := context.Background(), openStore(ts, args[0], args[1], deletingKM{})
	_, err := store.KeysByID(ctx, args[2], args[3])
	ts.Check(errors.Join(err, store.Close(ctx)))
}

// A deletingKM gives out any key that it is asked for, like a KME that then deletes it.
type deletingKM struct{ kmclient.KeyManager }

func (deletingKM) DeletesOnDelivery() bool { return true }

func (deletingKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		sum := sha256.Sum256([]byte(id))
		keys = append(keys, kmclient.NewKey(id, sum[:]))
	}
	return keys, nil
}

// openStore opens the store in a file. If it does not exist, openStore makes it, with a
// store key beside it.
func openStore(ts *testscript.TestScript, file, sae string, km kmclient.KeyManager) *keystore.Store {
	ctx, path := context.Background(), ts.MkAbs(file)
	engine, err := sqlite.Open(ctx, path, sqlite.Options{})
	ts.Check(err)
	store, err := keystore.Open(ctx, km, keystore.Options{Engine: engine, Key: keystore.KeyFile(path+".key", nil), SAE: sae})
	ts.Check(err)
	return store
}

// sql FILE STATEMENT changes an SQLite file.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(errors.Join(err, db.Close()))
}

// spoil FILE overwrites the last quarter of a file.
func spoil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: spoil FILE")
	}
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	last := text[len(text)*3/4:]
	copy(last, bytes.Repeat([]byte{0xA5}, len(last)))
	ts.Check(os.WriteFile(path, text, 0o600))
}
