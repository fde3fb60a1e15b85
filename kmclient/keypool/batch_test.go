package keypool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// refusal is how a key manager refuses a request.
func refusal(status int, err error) error {
	return &kmclient.Error{Op: "get keys", Status: status, Err: err}
}

// A key manager with few keys in stock must not stop one-key requests, whatever words
// it uses.
func TestPoolRefusedBatch(t *testing.T) {
	for name, test := range map[string]struct {
		refused error
		smaller bool // whether a smaller batch is asked for
	}{
		"exhausted":                   {refusal(503, kmclient.ErrKeyExhausted), true},
		"exhausted, not HTTP":         {kmclient.ErrKeyExhausted, true},
		"200 without keys":            {refusal(200, kmclient.ErrKeyExhausted), true},
		"a bad request":               {refusal(400, kmclient.ErrBadRequest), true},
		"over a limit":                {refusal(400, kmclient.ErrLimit), true},
		"a limit that is not HTTP's":  {kmclient.ErrBadRequest, true},
		"503 with whatever words":     {refusal(503, kmclient.ErrUnavailable), true},
		"404 with whatever words":     {refusal(404, kmclient.ErrBadAnswer), true},
		"409":                         {refusal(409, kmclient.ErrBadRequest), true},
		"401":                         {refusal(401, kmclient.ErrRefused), false},
		"429":                         {refusal(429, kmclient.ErrUnavailable), false},
		"500":                         {refusal(500, kmclient.ErrUnavailable), false},
		"502: the answer may be lost": {refusal(502, kmclient.ErrUnavailable), false},
		"504: the answer may be lost": {refusal(504, kmclient.ErrUnavailable), false},
		"504 with words of a KME":     {refusal(504, kmclient.ErrKeyExhausted), false},
		"no answer":                   {refusal(0, kmclient.ErrUnavailable), false},
		"keys that can't be used":     {refusal(200, kmclient.ErrBadKey), false},
		"an answer that is none":      {refusal(200, kmclient.ErrBadAnswer), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stock := 15
				km := &testKM{before: func(_ context.Context, _ string, number int) error {
					if number > stock {
						return test.refused
					}
					stock -= number
					return nil
				}}
				p := newPool(t, km, Options{})
				_, err := p.GetKeys(t.Context(), "B", 256, 1)
				synctest.Wait()
				if !test.smaller {
					if !errors.Is(err, test.refused) || len(km.requests) != 1 {
						t.Fatalf("%v after %v, want the error after one request", err, km.requests)
					}
					return
				}
				if err != nil || !slices.Equal(km.requests[:5], []int{128, 64, 32, 16, 8}) {
					t.Fatalf("%v after %v, want a key after 128, 64, 32, 16, 8", err, km.requests)
				}
				for i := range 14 { // all 15 keys get used
					if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil {
						t.Fatalf("key %d of 15: %v", i+2, err)
					}
				}
				if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, test.refused) {
					t.Errorf("with none left: %v, want the key manager's error", err)
				}
			})
		})
	}
}

// A refused size is not tried again for a minute, and a size that works grows again.
func TestPoolBatchGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		most := 10 // a limit that the key manager does not report
		km := &testKM{before: func(_ context.Context, _ string, number int) error {
			if number > most {
				return refusal(400, kmclient.ErrLimit)
			}
			return nil
		}}
		p := newPool(t, km, Options{Batch: 64, Low: 1, Max: 64})
		drain := func() {
			t.Helper()
			for n := p.Stats().Stock + 1; n > 0; n-- {
				if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		drain()
		km.requests = nil
		for range 5 {
			drain()
		}
		if slices.Max(km.requests) != 8 {
			t.Errorf("asked for %v, want 8 for a minute: 16 was refused", km.requests)
		}
		time.Sleep(refusalAge)
		km.requests, most = nil, 1000
		for range 4 {
			drain()
		}
		if !slices.Equal(km.requests[:4], []int{16, 32, 64, 64}) {
			t.Errorf("a minute later it was asked for %v, want 16, 32, 64, 64", km.requests)
		}
	})
}

// A key manager that gives nothing at all is asked once per fetch, not eight times.
func TestPoolNothingAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dry := true
		km := &testKM{before: func(context.Context, string, int) error {
			if dry {
				return refusal(503, kmclient.ErrKeyExhausted)
			}
			return nil
		}}
		p := newPool(t, km, Options{})
		for range 4 {
			if _, err := p.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrKeyExhausted) {
				t.Fatalf("%v, want ErrKeyExhausted", err)
			}
			time.Sleep(longestWait)
		}
		if !slices.Equal(km.requests, []int{128, 64, 32, 16, 8, 4, 2, 1, 1, 1, 1}) {
			t.Errorf("asked for %v, want each size once and then 1", km.requests)
		}
		dry, km.requests = false, nil
		if _, err := p.GetKeys(t.Context(), "B", 256, 1); err != nil {
			t.Errorf("with keys again: %v", err)
		}
		synctest.Wait()
		if !slices.IsSorted(km.requests) || slices.Max(km.requests) < 16 {
			t.Errorf("asked for %v, want growing sizes", km.requests)
		}
	})
}

// A caller that wants more keys than there are does not keep others from getting
// theirs.
func TestPoolManyBehindOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := 15
		km := &testKM{before: func(_ context.Context, _ string, number int) error {
			time.Sleep(time.Second)
			if number > stock {
				return refusal(400, kmclient.ErrKeyExhausted)
			}
			stock -= number
			return nil
		}}
		p := newPool(t, km, Options{})
		var group sync.WaitGroup
		group.Go(func() {
			if keys, err := p.GetKeys(t.Context(), "B", 256, 100); keys != nil || !errors.Is(err, kmclient.ErrKeyExhausted) {
				t.Errorf("100 keys of 15: %d, %v, want ErrKeyExhausted", len(keys), err)
			}
		})
		synctest.Wait()
		var mu sync.Mutex
		seen := map[string]bool{}
		for range 15 {
			group.Go(func() {
				keys, err := p.GetKeys(t.Context(), "B", 256, 1)
				if err != nil {
					t.Errorf("one key after 100: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if seen[keys[0].ID()] {
					t.Errorf("key %s is given out twice", keys[0].ID())
				}
				seen[keys[0].ID()] = true
			})
		}
		group.Wait()
	})
}
