package keypool

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

func TestPoolPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		km := &testKM{}
		p := newPool(t, km, Options{MaxPeers: 2})
		for _, peer := range []string{"A", "B", "A", "C"} {
			if keys, err := p.GetKeys(t.Context(), peer, 256, 1); err != nil || !strings.HasPrefix(keys[0].ID(), peer) {
				t.Errorf("for %s: %v, %v", peer, keys, err)
			}
			time.Sleep(time.Second)
		}
		if s := p.Stats(); s.Peers != 2 || s.Discarded != 127 || p.stocks["B"] != nil {
			t.Errorf("%+v: want B, least recently asked for, to have made room", s)
		}
		km.before = func(_ context.Context, peer string, _ int) error {
			if peer != "F" {
				time.Sleep(time.Second)
			}
			return nil
		}
		go func() { _, _ = p.GetKeys(t.Context(), "D", 256, 1) }()
		go func() { _, _ = p.GetKeys(t.Context(), "E", 256, 1) }()
		synctest.Wait()
		if _, err := p.GetKeys(t.Context(), "F", 256, 1); err != nil || km.requests[len(km.requests)-1] != 1 {
			t.Errorf("no room, since keys are being fetched for both: %v, %v, want one key past the pool", err, km.requests)
		}
	})
}

func TestPoolPassesThrough(t *testing.T) {
	km := &testKM{status: kmclient.Status{KeySize: 7}}
	p := newPool(t, km, Options{})
	ctx := t.Context()
	if s, err := p.Status(ctx, "B"); err != nil || s.KeySize != 7 {
		t.Errorf("Status = %+v, %v", s, err)
	}
	if _, err := p.KeysByID(ctx, "B", "x"); !errors.Is(err, kmclient.ErrKeyNotFound) || p.CloseKey(ctx, "x") == nil {
		t.Errorf("KeysByID: %v", err)
	}
	if !p.DeletesOnDelivery() {
		t.Error("the pool hides what its key manager says about itself")
	}
	for _, test := range []struct{ size, number int }{{512, 1}, {256, 129}, {128, 2}} {
		keys, err := p.GetKeys(ctx, "B", test.size, test.number)
		if err != nil || len(keys) != test.number || keys[0].Size() != test.size {
			t.Errorf("GetKeys(%d bits, %d) = %v, %v", test.size, test.number, keys, err)
		}
	}
	if s := p.Stats(); s != (Stats{}) {
		t.Errorf("%+v: these requests must not use the pool", s)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.GetKeys(canceled, "B", 256, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has given up: %v", err)
	}
}

// badKM gives more keys than asked for.
type badKM struct{ testKM }

func (km *badKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	return km.testKM.GetKeys(ctx, peer, size, number+1)
}

func TestPoolChecksKeys(t *testing.T) {
	km := &badKM{}
	p := newPool(t, km, Options{})
	if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("a key manager that gives too many: %v, want ErrBadKey", err)
	}
	if s := p.Stats(); s.Fetched != 129 || s.Discarded != 129 || km.made[0].Reveal() != nil {
		t.Errorf("%+v: want the keys wiped and counted", s)
	}
}

// lastKM has a stock of 100 keys, gives what it has, then none.
type lastKM struct{ testKM }

func (km *lastKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	km.testKM.mu.Lock()
	left := 100 - len(km.made)
	km.testKM.mu.Unlock()
	if left == 0 {
		return nil, &kmclient.Error{Op: "get keys", Status: 503, Retry: true, Err: kmclient.ErrKeyExhausted}
	}
	return km.testKM.GetKeys(ctx, peer, size, min(number, left))
}

// No key is lost if a key manager gives fewer keys than the pool asks for.
func TestPoolTakesFewer(t *testing.T) {
	km := &lastKM{}
	p := newPool(t, km, Options{})
	for i := range 100 {
		if keys, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil || len(keys) != 1 {
			t.Fatalf("key %d of 100: %v, %v", i+1, keys, err)
		}
	}
	if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrKeyExhausted) {
		t.Errorf("after all of them: %v, want ErrKeyExhausted", err)
	}
	if s := p.Stats(); s.Served != 100 || s.Discarded != 0 {
		t.Errorf("%+v: want 100 keys served and none discarded", s)
	}
}

func TestNewConfig(t *testing.T) {
	for name, o := range map[string]Options{
		"size": {Size: 255}, "batch": {Batch: -1}, "large batch": {Batch: 5000}, "max": {Batch: 10, Max: 9}, "low": {Low: 300},
		"age": {MaxAge: -1}, "timeout": {Timeout: -1}, "peers": {MaxPeers: -1}, "large size": {Size: 1 << 30},
	} {
		if _, err := New(&testKM{}, o); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	if _, err := New(nil, Options{}); !errors.Is(err, kmclient.ErrConfig) {
		t.Errorf("no key manager: %v, want ErrConfig", err)
	}
	before := runtime.NumGoroutine()
	if _, err := New(&testKM{}, Options{Batch: 1}); err != nil || runtime.NumGoroutine() > before {
		t.Errorf("a pool that was never used: %v, or it runs a goroutine", err)
	}
}
