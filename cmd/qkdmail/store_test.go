package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"regexp"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // another program that has the file open
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

// deliver STORE SAE ID RECIPIENT… records that recipients have got a message, as
// a relay does.
func deliver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: deliver STORE SAE ID RECIPIENT…")
	}
	ctx, path := context.Background(), ts.MkAbs(args[0])
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	ts.Check(err)
	vault, err := keystore.Open(ctx, store, keystore.KeyFile(path+".key"), nil)
	ts.Check(err)
	m, err := keystore.New(struct{ kmclient.KeyManager }{}, vault, keystore.Options{SAE: args[1]})
	ts.Check(err)
	infos, err := m.Show(ctx, args[2])
	ts.Check(err)
	message, err := hex.DecodeString(infos[0].Message)
	ts.Check(err)
	ts.Check(m.RecordDelivered(ctx, infos[0].Peer, kmclient.Identity(message), args[2], args[3:]...))
	ts.Check(vault.Close())
}

// receive STORE SAE PEER ID stores a key from a key manager that deletes keys.
func receive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: receive STORE SAE PEER ID")
	}
	ctx, path := context.Background(), ts.MkAbs(args[0])
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	ts.Check(err)
	vault, err := keystore.Open(ctx, store, keystore.MadeKeyFile(path+".key", nil), nil)
	ts.Check(err)
	m, err := keystore.New(&storetest.Link{}, vault, keystore.Options{SAE: args[1]})
	ts.Check(err)
	_, err = m.KeysByID(ctx, args[2], args[3])
	ts.Check(errors.Join(err, vault.Close()))
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

// spoil FILE overwrites what is in the last quarter of a file.
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
