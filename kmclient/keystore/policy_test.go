package keystore_test

import (
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

func TestPolicy(t *testing.T) {
	for text, want := range map[string]keystore.Policy{
		"after-delivery": keystore.AfterDelivery(), "after:0s": keystore.AfterDelivery(), "never": keystore.Never(),
		"after:36h": keystore.After(36 * time.Hour), "after:7d": keystore.After(7 * 24 * time.Hour),
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
	for _, text := range []string{"", "after", "after:", "after:-1h", "after:-1d", "after:x", "after:99999d", "always"} {
		if p, err := keystore.ParsePolicy(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
	if s := (keystore.Policy{}).String(); s != "after:168h0m0s" {
		t.Error(s)
	}
}
