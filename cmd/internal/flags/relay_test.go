package flags

import (
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/open"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A flag overrides the file.
func TestStoreOr(t *testing.T) {
	file := config.Store{Path: "postgres://a/x", Key: "env:K"}
	all := Store{Path: "postgres://b/y", Key: "env:L"}
	for name, tt := range map[string]struct {
		flags, want Store
	}{
		"no flag":     {Store{}, Store{Path: "postgres://a/x", Key: "env:K"}},
		"all flags":   {all, all},
		"another key": {Store{Key: "env:L"}, Store{Path: "postgres://a/x", Key: "env:L"}},
		"an SQLite":   {Store{Path: "copy.db"}, Store{Path: "copy.db", Key: "env:K"}},
		"none":        {Store{Path: NoStore}, Store{Path: NoStore, Key: "env:K"}},
	} {
		if got := tt.flags.Or(file); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// Every setting of a key manager in the file reaches its client.
func TestOpenOptions(t *testing.T) {
	km := config.KM{CA: "ca", Cert: "cert", Key: "key", KMEID: "id", SAE: "sae", RequestTimeout: 1, Timeout: 2}
	want := open.Options{CAFile: "ca", CertFile: "cert", KeyFile: "key", KMEID: "id", SAE: "sae", Timeout: 1}
	if got := openOptions(&km, nil); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The file's policies are the policies of the relay's store.
func TestKeepOptions(t *testing.T) {
	cfg := config.Default()
	cfg.KM.SAE = "SAE_B"
	cfg.Store.Close, cfg.Store.Undelivered = keystore.After(0), 90*24*time.Hour
	o := KeepOptions(cfg, nil)
	if o.KM != "" { // existing stores keep their keys under ""
		t.Errorf("keys are kept for key manager %q", o.KM)
	}
	if o.SAE != "SAE_B" || o.Close != keystore.After(0) || o.Tombstones != 60*24*time.Hour || o.Undelivered != 90*24*time.Hour {
		t.Errorf("%+v", o)
	}
}

// TestStateDir: commands find the relay's store as root and as the relay's account, whose
// home is the unit's StateDirectory.
func TestStateDir(t *testing.T) {
	const relay, user = 999, 1000
	for _, tt := range []struct {
		uid              int
		home, unit, want string
	}{
		{0, "/root", "", "/var/lib/qkdmail"},
		{relay, "/var/lib/qkdmail", "", "/var/lib/qkdmail"},
		{relay, "/var/lib/qkdmail", "/srv/state", "/srv/state"},
		{user, "/home/u", "", "/home/u/.local/state/qkdmail"},
	} {
		t.Setenv("XDG_STATE_HOME", "")
		t.Setenv("STATE_DIRECTORY", tt.unit)
		t.Setenv("HOME", tt.home)
		if got, err := stateDir(tt.uid); err != nil || got != tt.want {
			t.Errorf("user %d with home %s: %s, %v, want %s", tt.uid, tt.home, got, err, tt.want)
		}
	}
}
