package kmtest_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// openStore opens the key store at path.
func openStore(path string, km kmclient.KeyManager, timeout time.Duration) (*keystore.Store, error) {
	engine, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	return keystore.Open(context.Background(), km, keystore.Options{
		Engine: engine, Key: keystore.KeyFile(path+".key", nil), KM: "km", SAE: "B", FetchTimeout: timeout,
	})
}

// A link is two simulated KMEs that give out two keys per request.
type link struct {
	*kmtest.Network
	t     testing.TB
	hook  atomic.Value // func(n int, w http.ResponseWriter) bool: answers the n-th dec_keys itself, if it returns true
	asked atomic.Int64 // how often for dec_keys
}

func newLink(t testing.TB) *link {
	t.Helper()
	l := &link{t: t}
	l.Network = kmtest.StartKMEs(t, kmsim.TwoSites(), kmsim.Options{MaxKeysPerRequest: 2}, func(_ string, s *httptest.Server) {
		next := s.Config.Handler
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/dec_keys") {
				n := int(l.asked.Add(1))
				if hook, _ := l.hook.Load().(func(int, http.ResponseWriter) bool); hook != nil && hook(n, w) {
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	return l
}

// send returns keys that SAE_A has encrypted with, and their IDs.
func (l *link) send(n int) (sent []*kmclient.Key, ids []string) {
	l.t.Helper()
	sent, err := l.Client("SAE_A").GetKeys(l.t.Context(), "SAE_B", 256, n)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, k := range sent {
		ids = append(ids, k.ID())
	}
	return sent, ids
}

// process returns the store of a recipient that has just been started, a client of
// KME_B. stop ends the recipient.
func (l *link) process(path string) (store *keystore.Store, stop func()) {
	l.t.Helper()
	km := l.Client("SAE_B")
	store, err := openStore(path, km, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	return store, func() { km.CloseIdle(); _ = store.Close(context.Background()) }
}

// has reports whether a process started now finds keys in the store.
func (l *link) has(path string, sent ...*kmclient.Key) bool {
	m, err := openStore(path, nil, 0)
	if err != nil {
		l.t.Error(err)
		return false
	}
	defer func() { _ = m.Close(context.Background()) }()
	for _, k := range sent {
		keys, err := m.KeysByID(context.Background(), "SAE_A", k.ID())
		if err != nil || !bytes.Equal(keys[0].Reveal(), k.Reveal()) {
			return false
		}
	}
	return true
}

// A frame's keys come in several requests, and one of them fails. The keys that
// came are in the store before the error is returned, and those of each request
// before the next request is made: KMEs delete the keys they give out.
func TestPartOfAFrame(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   error
	}{
		"refused": {func(w http.ResponseWriter) { http.Error(w, `{"message":"busy"}`, http.StatusServiceUnavailable) }, kmclient.ErrUnavailable},
		"unknown": {func(w http.ResponseWriter) {
			http.Error(w, `{"message":"one or more keys specified are not found on KME"}`, http.StatusBadRequest)
		}, kmclient.ErrKeyNotFound},
		"cut": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, kmclient.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			l, path := newLink(t), filepath.Join(t.TempDir(), "keys.db")
			sent, ids := l.send(5)
			var early atomic.Bool
			l.hook.Store(func(n int, w http.ResponseWriter) bool {
				if n == 1 {
					return false
				}
				if n == 2 && !l.has(path, sent[:2]...) {
					early.Store(true)
				}
				c.answer(w)
				return true
			})
			m, stop := l.process(path)
			if _, err := m.KeysByID(t.Context(), "SAE_A", ids...); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if early.Load() {
				t.Error("a process killed between two requests would have lost the keys of the first")
			}
			stop()
			if !l.has(path, sent[:2]...) {
				t.Error("the keys that came are lost with the process")
			}
			l.hook.Store(func(int, http.ResponseWriter) bool { return false })
			m, stop = l.process(path)
			defer stop()
			before := l.asked.Load()
			keys, err := m.KeysByID(t.Context(), "SAE_A", ids...)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range keys {
				if !bytes.Equal(k.Reveal(), sent[i].Reveal()) {
					t.Errorf("key %d has other bytes", i)
				}
			}
			if n := l.asked.Load() - before; n != 2 {
				t.Errorf("%d requests for 3 keys, 2 a request", n)
			}
		})
	}
}

// The keys of an answer that comes after its caller has given up are stored.
func TestLateAnswer(t *testing.T) {
	l, path := newLink(t), filepath.Join(t.TempDir(), "keys.db")
	sent, ids := l.send(1)
	late := make(chan struct{})
	l.hook.Store(func(int, http.ResponseWriter) bool { <-late; return false })
	km := l.Client("SAE_B")
	m, err := openStore(path, km, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close(context.Background()) }()
	if _, err := m.KeysByID(t.Context(), "SAE_A", ids...); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	close(late)
	for end := time.Now().Add(10 * time.Second); !l.has(path, sent...); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the key of a late answer is not in the store")
		}
	}
}
