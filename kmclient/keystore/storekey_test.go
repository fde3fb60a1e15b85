package keystore_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

// open opens the store in m without a key manager.
func open(t *testing.T, m *memory.Records, keys ...keystore.StoreKey) (*keystore.Store, error) {
	t.Helper()
	return openWith(t, m, keystore.Keys(keys...))
}

func openWith(t *testing.T, m *memory.Records, key keystore.StoreKeySource) (*keystore.Store, error) {
	t.Helper()
	return keystore.Open(t.Context(), nil, keystore.Options{Engine: m.Open(nil), Key: key})
}

func TestWrongStoreKey(t *testing.T) {
	m := memory.New()
	right, wrong := keystore.NewStoreKey(), keystore.NewStoreKey()
	v, err := open(t, m, right)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := open(t, m, wrong); !errors.Is(err, keystore.ErrStoreKey) || !errors.Is(err, kmclient.ErrConfig) {
		t.Error(err)
	}
	if _, err := open(t, m, keystore.StoreKey{}); !errors.Is(err, kmclient.ErrConfig) {
		t.Error(err)
	}
	if _, err := open(t, m, wrong, right); err != nil {
		t.Error(err)
	}
	if _, err := open(t, m); !errors.Is(err, kmclient.ErrConfig) {
		t.Error(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %x %s", right, right, right, right, right); strings.ReplaceAll(s, "store key", "") != "    " {
		t.Errorf("prints as %s", s)
	}
}

// A sealed value is not valid for any other record, store or state.
func TestMoved(t *testing.T) {
	k, l := newKit(t, nil), newKit(t, nil)
	ids := k.sent(2)
	k.get(k.Store, ids...)
	names := []engine.Name{
		{Kind: engine.Receive, KM: "km", SAE: "B", ID: ids[0]}, {Kind: engine.Receive, KM: "km", SAE: "B", ID: ids[1]},
	}
	records, err := k.mem.Open(nil).Get(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	moved := *records[0]
	moved.Name = names[1]
	state := *records[0]
	state.Value = append([]byte(nil), state.Value...)
	state.Value[5] = 1
	other := *records[0]
	for name, c := range map[string]struct {
		k      *kit
		id     string
		change engine.Change
	}{
		"another name":  {k, ids[1], engine.Change{Old: records[1], New: &moved}},
		"another state": {k, ids[0], engine.Change{Old: records[0], New: &state}},
		"another store": {l, ids[0], engine.Change{New: &other}},
	} {
		if err := c.k.mem.Open(nil).Apply(t.Context(), c.change); err != nil {
			t.Fatal(err)
		}
		if _, err := c.k.KeysByID(t.Context(), "A", c.id); !errors.Is(err, keystore.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeadLost(t *testing.T) {
	k := newKit(t, nil)
	k.get(k.Store, k.sent(1)...)
	store := k.mem.Open(nil)
	records, err := store.Get(t.Context(), engine.Name{Kind: engine.Store, ID: "head"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Apply(t.Context(), engine.Change{Old: records[0]}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, k.mem, k.key); !errors.Is(err, keystore.ErrRecord) {
		t.Error(err)
	}
	_, err = k.KeysByID(t.Context(), "A", k.sent(1)...)
	k.want(err, keystore.ErrRecord, true)
}

func TestStoreKeySources(t *testing.T) {
	dir := t.TempDir()
	secret := strings.Repeat("\x00key\xff\x10\r\n", 4)
	files := map[string]string{
		"raw": secret, "base64": base64.StdEncoding.EncodeToString([]byte(secret)) + "\n", "hex": fmt.Sprintf("%X\r\n", secret),
		"empty": "", "short": "abcd", "long": strings.Repeat("x", 5000), "badhex": strings.Repeat("zz", 32), "badb64": strings.Repeat("!", 44),
	}
	m := memory.New()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("GOOD", files["hex"])
	t.Setenv("BAD", "secretsecret")
	for spec, good := range map[string]bool{
		"file:" + dir + "/raw": true, "file:" + dir + "/base64": true, "file:" + dir + "/hex": true, "credential:hex": true, "env:GOOD": true,
		"file:" + dir + "/empty": false, "file:" + dir + "/short": false, "file:" + dir + "/long": false, "file:" + dir + "/badhex": false,
		"file:" + dir + "/badb64": false, "file:" + dir + "/none": false, "credential:../x": false, "credential:..": false, "env:BAD": false,
		"env:NONE": false, "file:": false, "secretsecret": false, "vault:secretsecret": false, "credential:none": false,
	} {
		source, err := keystore.ParseStoreKeySource(spec, "unused", nil)
		if err == nil {
			_, err = openWith(t, m, source)
		}
		if (err == nil) != good || err != nil && (!errors.Is(err, kmclient.ErrConfig) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	source, err := keystore.ParseStoreKeySource("credential:hex", "unused", nil)
	if err == nil {
		_, err = source(false)
	}
	if !errors.Is(err, kmclient.ErrConfig) {
		t.Errorf("a credential where systemd gives none: %v, want ErrConfig", err)
	}
}

// A key is made at the first start, with a warning, but never for an existing store.
func TestKeyFileIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "keys.db.key")
	var log syncBuilder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	m := memory.New()
	for range 2 {
		source, err := keystore.ParseStoreKeySource("", path, logger)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openWith(t, m, source); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || strings.Count(log.String(), "WARN") != 1 {
		t.Errorf("%v, %v, log: %s", info, err, log.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := openWith(t, m, keystore.KeyFile(path, logger)); !errors.Is(err, kmclient.ErrConfig) {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a key was made for a store that has one")
	}
}

// An editor may put a byte order mark at the beginning of a key file. Any 32 bytes are a
// key.
func TestKeyFileFromEditors(t *testing.T) {
	key := strings.Repeat("k", 32)
	text := base64.StdEncoding.EncodeToString([]byte(key))
	path := filepath.Join(t.TempDir(), "store.key")
	for _, tt := range []struct{ name, text, want string }{ // want: "" or what the error says
		{"bytes", key, ""},
		{"base64 after a mark", "\uFEFF" + text + "\r\n", ""},
		{"hexadecimal after a mark", "\uFEFF" + hex.EncodeToString([]byte(key)), ""},
		{"bytes that look like a mark", "\uFEFF" + key[3:], ""},
		{"bytes that look like UTF-16", "\xFF\xFE" + key[2:], ""},
		{"UTF-16", "\xFF\xFE" + strings.Join(strings.Split(text, ""), "\x00") + "\x00", "iconv"},
		{"UTF-16 without a mark", strings.Join(strings.Split(text, ""), "\x00") + "\x00", "iconv"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := keystore.KeyFile(path, nil)(false)
		switch {
		case tt.want == "" && (err != nil || len(keys) != 1):
			t.Errorf("%s: %d keys, %v", tt.name, len(keys), err)
		case tt.want != "" && (!errors.Is(err, kmclient.ErrConfig) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want an ErrConfig with %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), text[:8]) {
			t.Errorf("%s: the error shows the key", tt.name)
		}
	}
}

// A key file is replaced while other processes go on: they find the new key.
func TestReplaceKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db.key")
	k := newKit(t, nil)
	k.mem = memory.New()
	start := func() *keystore.Store {
		return k.another(func(_ *kit, o *keystore.Options) { o.Key = keystore.KeyFile(path, nil) })
	}
	running := start()
	ids := k.sent(3)
	k.get(running, ids...)
	s := start()
	before, _ := os.ReadFile(path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.ReplaceKeyFile(ctx, path); err == nil {
		t.Error("done although the context had ended")
	}
	k.get(running, ids...)
	if err := os.Chmod(path, 0o440); err != nil { // as for the relay's group
		t.Fatal(err)
	}
	if err := os.Remove(path + ".new"); err != nil { // left from the attempt whose context had ended
		t.Fatal(err)
	}
	if err := s.ReplaceKeyFile(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o440 {
		t.Errorf("the new file: %v, %v", info, err)
	}
	after, _ := os.ReadFile(path)
	if _, err := os.Stat(path + ".new"); err == nil || string(before) == string(after) {
		t.Error("the file was not replaced")
	}
	k.get(running, ids...)
	k.bind(running, "m", ids...)
	k.get(running, k.sent(1)...)
	k.get(start(), ids...)
}
