package config

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/qkdmail/qkdmail/mailer"
)

// maxKeyFile is the size of the largest X-Wing key file, in bytes. A public key takes
// 1,723.
const maxKeyFile = 64 << 10

// A HybridKey is one of this site's X-Wing keys.
type HybridKey struct {
	*cipher.HybridPrivateKey
	// Written is when its file was written. It is zero for a credential, whose file
	// systemd writes each time that the relay starts.
	Written time.Time
}

// HybridKeys reads this site's X-Wing keys, in the order of Site.HybridKeys. The error
// joins what is wrong with them, each an *[Error].
func (c *Config) HybridKeys() ([]HybridKey, error) {
	f := &findings{c: c}
	keys := f.ownKeys()
	return keys, f.err()
}

// KeyFiles returns the files that Policy and HybridKeys read, credentials included. When
// one of them changes, a relay has to reload the configuration.
func (c *Config) KeyFiles() []string {
	var files []string
	for _, p := range c.Peers {
		files = append(files, p.HybridKey)
	}
	files = append(files, c.Site.HybridKeys...)
	files = slices.DeleteFunc(files, func(name string) bool { return name == "" })
	for i, name := range files {
		if path, err := textfile.Path(name); err == nil {
			files[i] = path
		}
	}
	return files
}

// ownKeys reads this site's keys. Two identical keys would look like a rotation that did
// not happen.
func (f *findings) ownKeys() (keys []HybridKey) {
	for i, name := range f.c.Site.HybridKeys {
		at := entryKey("site.hybrid_keys", i)
		key, ok := readHybridKey(f, at, name, textfile.ReadSecret, cipher.ParseHybridPrivateKey,
			"qkdmail keygen --hybrid makes one")
		if !ok {
			continue
		}
		same := func(k HybridKey) bool { return k.Public().Fingerprint() == key.Public().Fingerprint() }
		if slices.ContainsFunc(keys, same) {
			f.add(at, "%s: the same key is there already", name)
			continue
		}
		keys = append(keys, HybridKey{key, written(name)})
	}
	return keys
}

// written returns when a file was written, zero for a credential.
func written(name string) time.Time {
	info, err := os.Stat(name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// peerKeys reads the keys of the peers, by their indices. A peer whose key can't be read
// gets a stand-in as well as a finding.
func (f *findings) peerKeys() []*cipher.HybridPublicKey {
	keys := f.c.standIns()
	for i := range keys {
		if keys[i] == nil {
			continue
		}
		key, ok := readHybridKey(f, entryKey("peer", i)+".hybrid_key", f.c.Peers[i].HybridKey, textfile.Read, cipher.ParseHybridPublicKey,
			"the other site has it beside its private key")
		if ok {
			keys[i] = key
		}
	}
	return keys
}

// standIns returns a dummy key for each peer that has a key, by the peer's index, so that
// a policy can be checked without its files.
func (c *Config) standIns() []*cipher.HybridPublicKey {
	keys := make([]*cipher.HybridPublicKey, len(c.Peers))
	for i, p := range c.Peers {
		if p.HybridKey != "" {
			keys[i] = new(cipher.HybridPublicKey)
		}
	}
	return keys
}

// readHybridKey reads the key that a setting names. hint says where a key comes from. No
// finding shows any of the file's content.
func readHybridKey[K any](f *findings, at, name string, read func(string, int64) ([]byte, error), parse func([]byte) (K, error), hint string) (key K, ok bool) {
	path, err := textfile.Path(name)
	var text []byte
	if err == nil {
		text, err = read(path, maxKeyFile)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.add(at, "%v (%s)", err, hint)
		return key, false
	case err != nil:
		f.add(at, "%v", err)
		return key, false
	}
	defer clear(text)
	if key, err = parse(text); err != nil {
		f.add(at, "%s: %s (%s)", path, strings.TrimPrefix(err.Error(), cipher.ErrOptions.Error()+": "), hint)
	}
	return key, err == nil
}

// hybrid checks the settings of X-Wing keys, but opens no file.
func (f *findings) hybrid() {
	const none = "empty: name a file, or leave the key out" // or it would be a silent fallback
	own := f.c.Site.HybridKeys
	if own != nil && len(own) == 0 {
		f.add("site.hybrid_keys", none)
	}
	for i, name := range own {
		at := entryKey("site.hybrid_keys", i)
		if first := slices.Index(own, name); first < i {
			f.add(at, "is there already")
		} else if name == "" {
			f.add(at, none)
		}
		f.noKeyText(at, name)
	}
	for i := range f.c.Peers {
		p, at := &f.c.Peers[i], entryKey("peer", i)
		if _, there := f.c.lines[at+".hybrid_key"]; there && p.HybridKey == "" {
			f.add(at+".hybrid_key", none)
		}
		f.noKeyText(at+".hybrid_key", p.HybridKey)
		if p.Recipients != "" || f.c.file != "" { // as inbound
			f.oneOf(at+".recipients", p.Recipients, recipientsSealed, recipientsAny)
		}
		if len(own) > 0 || !f.c.Does(mailer.DirectionDecrypt) || p.acceptsPlain() {
			continue
		}
		if p.Suites == nil {
			f.add(at+".hybrid_key", "with it only hybrid suites are accepted from the peer, and there is no key to open them: "+
				"set hybrid_keys in [site], or suites = [\"aes-256-gcm\", \"otp\"] while its mail is not hybrid")
		} else {
			f.add(at+".suites", "all of them are hybrid, and there is no key to open them: set hybrid_keys in [site]")
		}
	}
}

// noKeyText refuses the text of a key in place of its file name. It may be secret.
func (f *findings) noKeyText(at, name string) {
	if strings.Contains(name, "-----BEGIN") {
		f.add(at, "is the text of a key: name its file")
	}
}

// acceptsPlain reports whether a suite without X-Wing is accepted from the peer. An
// unknown suite counts, since it has a finding of its own.
func (p *Peer) acceptsPlain() bool {
	if p.Suites == nil {
		return p.HybridKey == ""
	}
	return len(p.Suites) == 0 || slices.ContainsFunc(p.Suites, func(name string) bool {
		suite, err := cipher.ParseSuite(name)
		return err != nil || !suite.Hybrid()
	})
}

// notOurOwn reports keys of peers that are this site's: the peer could not open what is
// encrypted for them.
func (f *findings) notOurOwn(peers []*cipher.HybridPublicKey, own []HybridKey) {
	for i, key := range peers {
		ours := func(k HybridKey) bool { return k.Public().Fingerprint() == key.Fingerprint() }
		if key != nil && slices.ContainsFunc(own, ours) {
			f.add(entryKey("peer", i)+".hybrid_key", "%s: is our own key: name the file that the other site has sent", f.c.Peers[i].HybridKey)
		}
	}
}
