package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
)

// newKey returns an X-Wing key with both of its files.
func newKey(t *testing.T) (private *cipher.HybridPrivateKey, privateText, publicText string) {
	t.Helper()
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.RevealPEM()
	if err != nil {
		t.Fatal(err)
	}
	return key, string(seed), string(key.Public().PEM())
}

// TestHybridSettings: a key is named like a certificate or like a store key.
func TestHybridSettings(t *testing.T) {
	c := goodConfig(t, "good-06-hybrid.toml")
	in := func(name string) string { return filepath.Join("testdata", name) }
	if want := []string{in("site.key"), in("old.key"), "credential:site", "/etc/site.key", "/etc/old.key"}; !reflect.DeepEqual(c.Site.HybridKeys, want) {
		t.Errorf("our keys are %q, want %q", c.Site.HybridKeys, want)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/relay")
	want := []string{in("c.pub"), in("d.pub"), in("site.key"), in("old.key"), "/run/credentials/relay/site", "/etc/site.key", "/etc/old.key"}
	if got := c.KeyFiles(); !reflect.DeepEqual(got, want) {
		t.Errorf("the files are %q, want %q", got, want)
	}
	if c.Peers[0].Recipients != "sealed" || c.Peers[1].Recipients != "any" {
		t.Errorf("recipients are %q and %q, want sealed, the default, and any", c.Peers[0].Recipients, c.Peers[1].Recipients)
	}
}

// hybridConfig returns a configuration with two of our keys and one of a peer, all in one
// folder.
func hybridConfig(t *testing.T) (c *Config, folder string) {
	t.Helper()
	c, folder = goodConfig(t, "good-01-least.toml"), t.TempDir()
	c.file, c.lines = "", nil
	c.Site.HybridKeys = []string{filepath.Join(folder, "new.key"), filepath.Join(folder, "old.key")}
	c.Peers = []Peer{{Name: "a", SAE: "SAE_A"}, {Name: "b", SAE: "SAE_B", HybridKey: filepath.Join(folder, "b.pub"), Recipients: recipientsAny}}
	for _, name := range []string{"new", "old", "b"} {
		_, private, public := newKey(t)
		put(t, filepath.Join(folder, name+".key"), private, 0o600)
		put(t, filepath.Join(folder, name+".pub"), public, 0o644)
	}
	return c, folder
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the file may have existed
		t.Fatal(err)
	}
}

// TestHybridKeys: the policy and the relay get the keys that are in the files.
func TestHybridKeys(t *testing.T) {
	c, folder := hybridConfig(t)
	age := time.Now().Add(-40 * 24 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(c.Site.HybridKeys[1], age, age); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckFiles(); err != nil {
		t.Fatal(err)
	}
	own, err := c.HybridKeys()
	if err != nil || len(own) != 2 {
		t.Fatalf("%d keys, %v; want two", len(own), err)
	}
	for i, name := range []string{"new", "old"} {
		text, err := os.ReadFile(filepath.Join(folder, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(own[i].Public().PEM()); got != string(text) {
			t.Errorf("key %d is not the one in %s.key", i, name)
		}
	}
	if !own[1].Written.Equal(age) {
		t.Errorf("the old key was written at %v, want %v", own[1].Written, age)
	}
	p, err := c.Policy()
	if err != nil {
		t.Fatal(err)
	}
	peers := p.Peers()
	if peers[0].Hybrid != nil || peers[0].AnyRecipient || !peers[0].Accepts(cipher.SuiteOTP) {
		t.Errorf("the peer without a key is %+v", peers[0])
	}
	if peers[1].Hybrid == nil || !peers[1].AnyRecipient || peers[1].Accepts(cipher.SuiteOTP) || !peers[1].Accepts(cipher.SuiteOTPXWing) {
		t.Errorf("the peer with a key is %+v", peers[1])
	}
}

// TestHybridCredential: a key may be a credential of systemd, whose age is not known.
func TestHybridCredential(t *testing.T) {
	c, folder := hybridConfig(t)
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	c.Site.HybridKeys = []string{"credential:old.key"}
	c.Peers[1].HybridKey = "credential:b.pub"
	if err := c.CheckFiles(); err != nil {
		t.Fatal(err)
	}
	own, err := c.HybridKeys()
	if err != nil || len(own) != 1 || !own[0].Written.IsZero() {
		t.Errorf("got %d keys, %v; want one, written at no time", len(own), err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	found := errorsOf(t, c.CheckFiles())
	if len(found) != 2 || !strings.Contains(found[0].Message, "LoadCredential=") {
		t.Errorf("without credentials: %v, want two findings that say where they come from", found)
	}
}

// TestHybridFilesRefused: a key file that can't be used is an error that says where it is
// named and what to do, and shows none of the file's content.
func TestHybridFilesRefused(t *testing.T) {
	_, private, public := newKey(t)
	lines := strings.SplitAfter(public, "\n")
	ofKind := func(kind, content string) string {
		return fmt.Sprintf("-----BEGIN %s-----\n%s\n-----END %[1]s-----\n", kind, content)
	}
	const own, peers = "site.hybrid_keys[0]", "peer[1].hybrid_key"
	for _, tt := range []struct {
		name, at, text string
		mode           os.FileMode
		says           string
	}{
		{"own, empty", own, "", 0o600, "it is empty"},
		{"own, blanks", own, " \n", 0o600, "it is empty"},
		{"own, no PEM", own, "hello", 0o600, "it is not PEM"},
		{"own, short", own, ofKind("QKDMAIL X-WING PRIVATE KEY", "AAAA"), 0o600, "it has 3 bytes, not 32"},
		{"own, cut", own, private[:len(private)/2], 0o600, "it is not PEM"},
		{"own, two", own, private + private, 0o600, "more than one PEM block"},
		{"own, of another kind", own, ofKind("PRIVATE KEY", "AAAA"), 0o600, `want "QKDMAIL X-WING PRIVATE KEY"`},
		{"own, the public key", own, public, 0o600, "it is a public key: use the private key"},
		{"own, for all to read", own, private, 0o644, "it is secret, and its mode is 0644: make it 0600"},
		{"own, for the group to write", own, private, 0o660, "it is secret, and its mode is 0660: make it 0600"},
		{"own, UTF-16", own, "\xFF\xFE" + strings.Join(strings.Split(private, ""), "\x00"), 0o600, "iconv"},
		{"own, long", own, strings.Repeat("#", maxKeyFile+1), 0o600, "too long"},
		{"the peer's, empty", peers, "", 0o644, "it is empty"},
		{"the peer's, short", peers, lines[0] + lines[1] + lines[len(lines)-2], 0o644, "no X-Wing public key in it"},
		{"the peer's, of another kind", peers, ofKind("CERTIFICATE", "AAAA"), 0o644, `want "QKDMAIL X-WING PUBLIC KEY"`},
		{"the peer's, the private key", peers, private, 0o600, "it is a private key: use the public key beside it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := hybridConfig(t)
			path := c.Site.HybridKeys[0]
			if tt.at == peers {
				path = c.Peers[1].HybridKey
			}
			put(t, path, tt.text, tt.mode)
			found := errorsOf(t, c.CheckFiles())
			if len(found) != 1 || found[0].Key != tt.at || !strings.Contains(found[0].Message, tt.says) || !strings.Contains(found[0].Message, path) {
				t.Fatalf("got %v, want %s: %s: … %s", found, tt.at, path, tt.says)
			}
			for line := range strings.Lines(private) {
				if strings.Contains(found[0].Message, strings.TrimSpace(line)) && !strings.HasPrefix(line, "-----") {
					t.Errorf("%v shows the key", found[0])
				}
			}
			// Starting a relay fails as well.
			_, err := c.HybridKeys()
			if tt.at == peers {
				_, err = c.Policy()
			}
			if !errors.Is(err, mailer.ErrConfig) {
				t.Errorf("without CheckFiles the file is taken: %v", err)
			}
		})
	}
}

// TestHybridKeysMixedUp: the same key twice is not a rotation, and our own key is not a
// peer's.
func TestHybridKeysMixedUp(t *testing.T) {
	for says, mix := range map[string]func(c *Config, folder string){
		"site.hybrid_keys[1]: DIR/copy.key: the same key is there already": func(c *Config, folder string) {
			c.Site.HybridKeys[1] = filepath.Join(folder, "copy.key")
			text, _ := os.ReadFile(c.Site.HybridKeys[0])
			put(t, c.Site.HybridKeys[1], string(text), 0o600)
		},
		"peer[1].hybrid_key: DIR/old.pub: is our own key": func(c *Config, folder string) { c.Peers[1].HybridKey = filepath.Join(folder, "old.pub") },
		"site.hybrid_keys[1]: open DIR/none.key: no such file or directory (qkdmail keygen --hybrid makes one)": func(c *Config, folder string) {
			c.Site.HybridKeys[1] = filepath.Join(folder, "none.key")
		},
		"peer[1].hybrid_key: open DIR/none.pub: no such file or directory (the other site has it": func(c *Config, folder string) {
			c.Peers[1].HybridKey = filepath.Join(folder, "none.pub")
		},
	} {
		c, folder := hybridConfig(t)
		mix(c, folder)
		want := strings.ReplaceAll(says, "DIR", folder)
		if found := errorsOf(t, c.CheckFiles()); len(found) != 1 || !strings.HasPrefix(found[0].Error(), want) {
			t.Errorf("got %v, want %s", found, want)
		}
	}
}
