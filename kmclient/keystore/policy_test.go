package keystore_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

func TestPolicy(t *testing.T) {
	for text, want := range map[string]keystore.Policy{
		"after-delivery": keystore.After(0), "after:0s": keystore.After(0), "never": keystore.Never(),
		"after:36h": keystore.After(36 * time.Hour), "after:7d": keystore.After(7 * 24 * time.Hour),
		"after:36500d": keystore.After(keystore.Longest), "after:876000h": keystore.After(math.MaxInt64),
	} {
		got, err := keystore.ParsePolicy(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		var again keystore.Policy
		if text, _ := got.MarshalText(); again.UnmarshalText(text) != nil || again != want {
			t.Errorf("%s became %s", text, again)
		}
	}
	for _, text := range []string{"", "after", "after:", "after:-1h", "after:-1d", "after:x", "after:99999d", "after:36501d", "after:876000h1s", "after:2500000h", "always"} {
		if p, err := keystore.ParsePolicy(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
	if s := (keystore.Policy{}).String(); s != "after:168h0m0s" {
		t.Error(s)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"36h": 36 * time.Hour, "7d": 7 * day, "0d": 0, "-1h": -time.Hour, "36500d": keystore.Longest, "876000h": keystore.Longest} {
		if got, err := keystore.ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "36501d", "65536d", "876000h1ns", "-876001h", "2500000h", "9999999999h"} {
		if d, err := keystore.ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
}

// However long keys are kept, nothing that must stay is due in the past.
func TestLongest(t *testing.T) {
	k := newKit(t, func(_ *kit, o *keystore.Options) {
		o.Close, o.Tombstones, o.Undelivered = keystore.After(2_500_000*time.Hour), keystore.Longest, keystore.Longest
	})
	ids := k.sent(1)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], rcpt)
	for range 3 {
		k.clock.add(33 * 365 * day)
		k.sweep(k.Store)
	}
	k.wantState(ids[0], kmclient.StateUsed)
	if !k.has(k.Store, ids[0], rcpt) {
		t.Error("the record of the delivery is gone")
	}
}

func TestOptions(t *testing.T) {
	for _, d := range []time.Duration{-1, keystore.Longest + 1, math.MaxInt64} {
		for name, o := range map[string]keystore.Options{"tombstones": {Tombstones: d}, "undelivered": {Undelivered: d}} {
			o.Engine, o.Key = memory.New().Open(nil), keystore.Keys(keystore.NewStoreKey())
			if _, err := keystore.Open(t.Context(), newKM(), o); !errors.Is(err, kmclient.ErrConfig) {
				t.Errorf("%s: %v: %v, want an ErrConfig", name, d, err)
			}
		}
	}
}
