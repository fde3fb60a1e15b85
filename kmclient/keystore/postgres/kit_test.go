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
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// one is the server that most tests share, each with its own schema.
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

func openEngine(t testing.TB, url string) *postgres.Engine {
	t.Helper()
	return openWith(t, postgres.Options{URL: url})
}

func openWith(t testing.TB, o postgres.Options) *postgres.Engine {
	t.Helper()
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func name(id string) engine.Name {
	return engine.Name{Kind: engine.Receive, KM: "km", SAE: "sae", ID: id}
}

func record(id, value string) *engine.Record {
	return &engine.Record{Name: name(id), Value: []byte(value)}
}

// put makes a new record.
func put(t testing.TB, s engine.Engine, id string) {
	t.Helper()
	if err := s.Apply(t.Context(), engine.Change{New: record(id, "v")}); err != nil {
		t.Fatal(err)
	}
}

// get returns a record, or nil if there is none.
func get(t testing.TB, s engine.Engine, id string) *engine.Record {
	t.Helper()
	records, err := s.Get(t.Context(), name(id))
	if err != nil {
		t.Fatal(err)
	}
	return records[0]
}

// wantRefused wants a kmclient.ErrStore that contains some words, and no password.
func wantRefused(t testing.TB, err error, words string) {
	t.Helper()
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want an ErrStore: %s", err, words)
	}
	if err != nil && strings.Contains(err.Error(), pgtest.Password) {
		t.Errorf("the password shows: %v", err)
	}
}

// schemaName is the name of the schema made last.
func schemaName() string { return fmt.Sprintf("test%d", schemas.Load()) }

// newStore opens the store of an engine.
func newStore(t testing.TB, e engine.Engine) *keystore.Store {
	t.Helper()
	s, err := storeIn(e, filepath.Join(t.TempDir(), "store.key"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// storeIn opens the store of an engine. Its key is in a file, which is made with the
// store.
func storeIn(e engine.Engine, key string) (*keystore.Store, error) {
	return keystore.Open(context.Background(), &storetest.Link{}, keystore.Options{
		Engine: e, Key: keystore.KeyFile(key, nil), KM: "km", SAE: "B", SweepEvery: -1,
	})
}
