package daemon

import (
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
)

// A flag comes before the key of the file.
func TestStoreOf(t *testing.T) {
	file := mailer.StoreConfig{Path: "postgres://a/x", Key: "env:K"}
	all := cli.StoreFlags{Path: "postgres://b/y", Key: "env:L"}
	for name, tt := range map[string]struct {
		flags, want cli.StoreFlags
	}{
		"no flag":     {cli.StoreFlags{}, cli.StoreFlags{Path: "postgres://a/x", Key: "env:K"}},
		"all flags":   {all, all},
		"another key": {cli.StoreFlags{Key: "env:L"}, cli.StoreFlags{Path: "postgres://a/x", Key: "env:L"}},
		"an SQLite":   {cli.StoreFlags{Path: "copy.db"}, cli.StoreFlags{Path: "copy.db", Key: "env:K"}},
		"none":        {cli.StoreFlags{Path: cli.NoStore}, cli.StoreFlags{Path: cli.NoStore, Key: "env:K"}},
	} {
		if got := storeOf(tt.flags, file); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestParseBefore(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	for text, want := range map[string]time.Time{
		"":                     {},
		"2026-01-31":           time.Date(2026, 1, 31, 0, 0, 0, 0, now.Location()),
		"2026-01-31T10:00:00Z": time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC),
		"30d":                  now.Add(-30 * 24 * time.Hour),
		"90m":                  now.Add(-90 * time.Minute),
	} {
		if got, err := parseBefore(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"31.1.2026", "-1h", "-1d", "1x", "2026-02-30", "tomorrow"} {
		if got, err := parseBefore(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// The policies of the file are those of the relay's store.
func TestKeepOptions(t *testing.T) {
	cfg := mailer.DefaultConfig()
	cfg.KM.SAE = "SAE_B"
	cfg.Store.Close, cfg.Store.Undelivered = keystore.AfterDelivery(), 90*24*time.Hour
	o := keepOptions(cfg, nil)
	if o.KM != "" { // what is in stores that are there already
		t.Errorf("keys are kept for key manager %q", o.KM)
	}
	if o.SAE != "SAE_B" || o.Close != keystore.AfterDelivery() || o.Tombstones != 60*24*time.Hour || o.Undelivered != 90*24*time.Hour {
		t.Errorf("%+v", o)
	}
}
