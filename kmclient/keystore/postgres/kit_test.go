package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// one is the server that most tests share, each with a schema of its own.
var one pgtest.Shared

func shared(t testing.TB) *pgtest.Server {
	t.Helper()
	return one.Server(t)
}

var schemas atomic.Int64

// newSchema makes an empty schema and returns the URL of a store in it.
func newSchema(t testing.TB, first *pgtest.Server, others ...*pgtest.Server) string {
	t.Helper()
	url := fmt.Sprintf("%s&search_path=test%d", first.URL(others...), schemas.Add(1))
	if err := postgres.Init(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

func openStore(t testing.TB, url string) *postgres.Store {
	t.Helper()
	return openWith(t, postgres.Options{URL: url})
}

func openWith(t testing.TB, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func name(id string) keystore.Name {
	return keystore.Name{Kind: keystore.KindReceive, KM: "km", SAE: "sae", ID: id}
}

func record(id, value string) *keystore.Record {
	return &keystore.Record{Name: name(id), Value: []byte(value)}
}

// put makes a new record.
func put(t testing.TB, s keystore.Store, id string) {
	t.Helper()
	if err := s.Apply(t.Context(), keystore.Change{New: record(id, "v")}); err != nil {
		t.Fatal(err)
	}
}

// get returns a record, nil if there is none.
func get(t testing.TB, s keystore.Store, id string) *keystore.Record {
	t.Helper()
	records, err := s.Get(t.Context(), name(id))
	if err != nil {
		t.Fatal(err)
	}
	return records[0]
}

// wantRefused wants a kmclient.ErrStore with some words in it, and no password.
func wantRefused(t testing.TB, err error, words string) {
	t.Helper()
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want an ErrStore: %s", err, words)
	}
	if err != nil && strings.Contains(err.Error(), pgtest.Password) {
		t.Errorf("the password shows: %v", err)
	}
}

// schemaName is that of the schema that was made last.
func schemaName() string { return fmt.Sprintf("test%d", schemas.Load()) }

// newManager returns a manager on a store.
func newManager(t testing.TB, s keystore.Store) *keystore.Manager {
	t.Helper()
	m, err := manager(s, filepath.Join(t.TempDir(), "store.key"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// manager returns one on a store, which is sealed with the key in a file that is made
// with the store.
func manager(s keystore.Store, key string) (*keystore.Manager, error) {
	v, err := keystore.Open(context.Background(), s, keystore.MadeKeyFile(key, nil), nil)
	if err != nil {
		return nil, err
	}
	return keystore.New(&storetest.Link{}, v, keystore.Options{KM: "km", SAE: "B"})
}
