package keypool

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// testKM makes keys in memory. before is called at every request for keys.
type testKM struct {
	status kmclient.Status
	before func(ctx context.Context, peer string, number int) error

	mu       sync.Mutex
	made     []*kmclient.Key
	requests []int // how many keys each asked for
}

func (km *testKM) Status(context.Context, string) (kmclient.Status, error) { return km.status, nil }

func (km *testKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	km.mu.Lock()
	km.requests = append(km.requests, number)
	km.mu.Unlock()
	if km.before != nil {
		if err := km.before(ctx, peer, number); err != nil {
			return nil, err
		}
	}
	km.mu.Lock()
	defer km.mu.Unlock()
	keys := make([]*kmclient.Key, number)
	for i := range keys {
		secret := make([]byte, size/8)
		_, _ = rand.Read(secret)
		keys[i] = kmclient.NewKey(fmt.Sprintf("%s-%d", peer, len(km.made)), secret)
		km.made = append(km.made, keys[i])
	}
	return keys, nil
}

func (km *testKM) KeysByID(_ context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	return nil, fmt.Errorf("%w: %s %v", kmclient.ErrKeyNotFound, peer, ids)
}

func (km *testKM) CloseKey(_ context.Context, id string) error {
	return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
}

func (km *testKM) DeletesOnDelivery() bool { return true }

func newPool(t *testing.T, km kmclient.KeyManager, o Options) *Pool {
	t.Helper()
	p, err := New(km, o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if s := p.Stats(); s.Stock != 0 || s.Fetched != s.Served+s.Expired+s.Discarded {
			t.Errorf("keys are not accounted for: %+v", s)
		}
	})
	return p
}

// 64 goroutines take 100,000 keys: none twice, none lost, and about one request per 128
// keys.
func TestPoolManyCallers(t *testing.T) {
	const callers, each = 64, 1563 // 100,032
	km := &testKM{status: kmclient.Status{MaxKeyPerRequest: 128}}
	p := newPool(t, km, Options{})
	var seen sync.Map
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range each {
				keys, err := p.GetKeys(t.Context(), "B", 256, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if len(keys) != 1 || len(keys[0].Reveal()) != 32 {
					t.Errorf("got %v, want a key of 256 bits", keys)
					return
				}
				if _, twice := seen.LoadOrStore(keys[0].ID(), true); twice {
					t.Errorf("key %s is given out twice", keys[0].ID())
				}
			}
		})
	}
	group.Wait()
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	if s.Served != callers*each || s.Fetched != int64(len(km.made)) || s.Fetched != s.Served+s.Expired+s.Discarded {
		t.Errorf("the key manager made %d keys; %+v: want all accounted for", len(km.made), s)
	}
	if s.Requests != int64(len(km.requests)) || s.Requests*100 >= s.Served {
		t.Errorf("%d requests for %d keys, want fewer than one per 100", s.Requests, s.Served)
	}
	for _, k := range km.made {
		if _, served := seen.Load(k.ID()); !served && k.Reveal() != nil {
			t.Fatalf("key %s was neither given out nor wiped", k.ID())
		}
	}
}

func TestPoolOneFetchForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{before: func(context.Context, string, int) error { time.Sleep(time.Second); return nil }}
		p := newPool(t, km, Options{})
		canceled, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range 64 {
			group.Go(func() {
				ctx, want := t.Context(), error(nil)
				if i%8 == 0 {
					ctx, want = canceled, context.Canceled
				}
				if _, err := p.GetKeys(ctx, "B", 256, 1); !errors.Is(err, want) {
					t.Errorf("caller %d: %v, want %v", i, err, want)
				}
			})
		}
		synctest.Wait()
		cancel() // also that of the first, whose call began the fetch
		group.Wait()
		if s := p.Stats(); s.Requests != 1 || s.Served != 56 || s.Stock != 128-56 {
			t.Errorf("%+v: want one request, and 56 keys given out", s)
		}
	})
}

func TestPoolFailureIsForAllAndPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &kmclient.Error{Op: "get keys", Err: kmclient.ErrUnavailable, Retry: true}
		km := &testKM{before: func(context.Context, string, int) error { time.Sleep(time.Second); return broken }}
		var log bytes.Buffer
		p := newPool(t, km, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ask := func(n int) {
			t.Helper()
			var group sync.WaitGroup
			for range n {
				group.Go(func() {
					if keys, err := p.GetKeys(t.Context(), "B", 256, 1); keys != nil || !errors.Is(err, broken) {
						t.Errorf("got %v, %v, want the key manager's error", keys, err)
					}
				})
			}
			group.Wait()
		}
		ask(64)
		ask(64) // immediately: the same error without a request
		if len(km.requests) != 1 {
			t.Errorf("%d requests, want 1", len(km.requests))
		}
		for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(10 * time.Millisecond) {
			ask(1)
		}
		if n := len(km.requests); n < 10 || n > 18 {
			t.Errorf("%d requests in a minute, want about one every 6 seconds", n)
		}
		if s := p.Stats(); s.Failures != s.Requests || s.Fetched != 0 || strings.Count(log.String(), "\n") != int(s.Requests) {
			t.Errorf("counted %+v, logged\n%s", s, &log)
		}
		km.before = nil
		time.Sleep(longestWait)
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil {
			t.Errorf("after the key manager is back: %v", err)
		}
	})
}

func TestPoolRefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{status: kmclient.Status{MaxKeyPerRequest: 20}}
		p := newPool(t, km, Options{Batch: 50, Low: 10, Max: 60})
		take := func(n int) {
			t.Helper()
			if keys, err := p.GetKeys(t.Context(), "B", 256, n); err != nil || len(keys) != n {
				t.Fatalf("GetKeys(%d) = %v, %v", n, keys, err)
			}
			synctest.Wait()
		}
		stock := func(want int, when string) {
			t.Helper()
			if s := p.Stats(); s.Stock != want {
				t.Errorf("%s: %+v, want a stock of %d", when, s, want)
			}
		}
		take(1)
		stock(19, "after the first key")
		take(9)
		stock(10, "at the low mark")
		take(1)
		stock(29, "below it: refilled in the background")
		take(30)
		stock(19, "more than there were: fetched and taken")
		take(50)
		for _, n := range km.requests {
			if n > 20 {
				t.Errorf("asked for %d keys, though the key manager gives 20", n)
			}
		}
		km.before = func(context.Context, string, int) error { return kmclient.ErrUnavailable }
		for p.Stats().Stock > 0 {
			take(1) // while there are keys, no caller gets the failure of a refill
		}
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrUnavailable) {
			t.Errorf("with no keys left: %v, want ErrUnavailable", err)
		}
	})
}

func TestPoolTakesWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{status: kmclient.Status{StoredKeys: new(20)}}
		km.before = func(_ context.Context, _ string, number int) error {
			if number > *km.status.StoredKeys {
				return kmclient.ErrKeyExhausted
			}
			*km.status.StoredKeys -= number
			return nil
		}
		p := newPool(t, km, Options{Low: 1})
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil || p.Stats().Stock != 15 {
			t.Errorf("a key manager with 20 keys: %v, %+v, want one given out and 15 waiting: of 16, half and half again of 128", err, p.Stats())
		}
		for range 19 {
			if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrKeyExhausted) {
			t.Errorf("with none left: %v, want ErrKeyExhausted", err)
		}
	})
}

func TestPoolExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{}
		p := newPool(t, km, Options{Batch: 4, Low: 1, MaxAge: time.Minute})
		get := func(peer string) string {
			t.Helper()
			keys, err := p.GetKeys(t.Context(), peer, 256, 1)
			if err != nil {
				t.Fatal(err)
			}
			return keys[0].ID()
		}
		get("B")
		time.Sleep(40 * time.Second)
		get("C")
		time.Sleep(19 * time.Second)
		if id := get("B"); id != "B-1" {
			t.Errorf("got %s, want the oldest key, B-1", id)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := p.Stats(); s.Expired != 2 || s.Stock != 3 || s.Requests != 2 {
			t.Errorf("after a minute: %+v, want the two old keys wiped, and no fetch to replace them", s)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := p.Stats(); s.Expired != 5 || s.Stock != 0 {
			t.Errorf("all are too old: %+v", s)
		}
		if id := get("B"); id != "B-8" {
			t.Errorf("got %s, want a fresh key", id)
		}
		km.mu.Lock()
		defer km.mu.Unlock()
		if km.made[2].Reveal() != nil || km.made[1].Reveal() == nil {
			t.Error("the wrong keys are wiped")
		}
	})
}

func TestPoolClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{}
		p := newPool(t, km, Options{})
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil {
			t.Fatal(err)
		}
		// This fetch does not end when the pool does, and brings keys.
		km.before = func(context.Context, string, int) error { time.Sleep(10 * time.Second); return nil }
		waiter := make(chan error)
		go func() { _, err := p.GetKeys(t.Context(), "C", 256, 1); waiter <- err }()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close during a fetch: %v, want the error of its context", err)
		}
		if s := p.Stats(); s.Stock != 0 || s.Discarded != 127 {
			t.Errorf("closed: %+v, want 127 keys wiped", s)
		}
		if err := <-waiter; !errors.Is(err, ErrClosed) || !errors.Is(err, kmclient.ErrUnavailable) {
			t.Errorf("a waiting caller gets %v, want ErrClosed", err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if s := p.Stats(); s.Stock != 0 || s.Fetched != 256 || s.Discarded != 255 {
			t.Errorf("after the fetch: %+v, want its keys wiped as well", s)
		}
		for _, k := range km.made[1:] {
			if k.Reveal() != nil {
				t.Fatalf("key %s is not wiped", k.ID())
			}
		}
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("GetKeys afterwards: %v, want ErrClosed", err)
		}
	})
}

func TestPoolStopsAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{before: func(ctx context.Context, _ string, _ int) error { <-ctx.Done(); return ctx.Err() }}
		p := newPool(t, km, Options{Timeout: 10 * time.Second})
		_, err := p.GetKeys(t.Context(), "B", 256, 1)
		if !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fetch that takes too long: %v, want ErrUnavailable, not from the caller's context", err)
		}
		time.Sleep(time.Minute)
		go func() { _, _ = p.GetKeys(t.Context(), "B", 256, 1) }()
		synctest.Wait()
		start := time.Now()
		if err := p.Close(t.Context()); err != nil || time.Since(start) > 0 {
			t.Errorf("Close: %v after %v, want the fetch canceled", err, time.Since(start))
		}
	})
}
