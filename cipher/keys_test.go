package cipher_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// TestNoKeyForNothing checks that no key is fetched for a message that can be
// refused without one: the key manager may delete it.
func TestNoKeyForNothing(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		payload := payloadOf(t, outer)
		for name, broken := range map[string][]byte{
			"other mail":      []byte(shortMessage),
			"version 2":       bytes.Replace(outer, []byte("\nVersion: 1\n"), []byte("\nVersion: 2\n"), 1),
			"unknown suite":   bytes.Replace(outer, []byte("Suite: "), []byte("Suite: X-"), 1),
			"empty payload":   replacePayload(outer, nil),
			"cut in its head": replacePayload(outer, payload[:10]),
			"no padding":      bytes.Replace(outer, []byte("=\n\n--"), []byte("\n\n--"), 1),
		} {
			if bytes.Equal(broken, outer) {
				continue // no padding to remove
			}
			km.finds = 0
			if _, err := decrypt(t, km, broken, nil); !refused(err) {
				t.Errorf("%s, %s: error %v", suite, name, err)
			}
			if km.finds > 0 && !(name == "no padding" && suite == cipher.SuiteAES256GCM) {
				t.Errorf("%s, %s: a key was fetched", suite, name)
			}
		}
	}
}

// TestKeySpelling spells the Key-ID differently.
func TestKeySpelling(t *testing.T) {
	km := newTestKM()
	outer := encrypt(t, km, []byte(shortMessage), nil)
	info, err := cipher.Inspect(bytes.NewReader(outer))
	if err != nil {
		t.Fatal(err)
	}
	upper := bytes.Replace(outer, []byte("\nKey-ID: "+info.KeyIDs[0]), []byte("\nKey-ID: "+strings.ToUpper(info.KeyIDs[0])), 1)
	// It still names the same key as the header field, but the control octets are not
	// those that were authenticated.
	if _, err := decrypt(t, km, upper, nil); !errors.Is(err, cipher.ErrWrongKey) {
		t.Errorf("error %v, want %v", err, cipher.ErrWrongKey)
	}
}

// TestBadKeys encrypts with keys that a key manager must not give.
func TestBadKeys(t *testing.T) {
	for name, k := range map[string]oneKey{
		"short":           {"id", []byte("0123456789abcde")},
		"long":            {"id", []byte(strings.Repeat("ab", 32))},
		"equal bytes":     {"id", make([]byte, 32)},
		"empty":           {"id", nil},
		"no ID":           {"", []byte(strings.Repeat("ab", 16))},
		"line end in ID":  {"a\r\nBcc: x", []byte(strings.Repeat("ab", 16))},
		"ID too long":     {strings.Repeat("x", 256), []byte(strings.Repeat("ab", 16))},
		"blank in the ID": {"a b", []byte(strings.Repeat("ab", 16))},
	} {
		var out bytes.Buffer
		if _, err := encryptTo(t, &out, k, []byte(shortMessage), nil); !errors.Is(err, kmclient.ErrBadKey) {
			t.Errorf("%s: error %v, want %v", name, err, kmclient.ErrBadKey)
		}
		if out.Len() > 0 {
			t.Errorf("%s: %d bytes were written", name, out.Len())
		}
	}
}

// TestAnotherKey decrypts with keys that are not the message's.
func TestAnotherKey(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		for name, k := range map[string]oneKey{
			"another ID":  {"another", bytes.Repeat([]byte("ab"), 16)},
			"equal bytes": {infoOf(t, outer).KeyIDs[0], make([]byte, 64)},
		} {
			if _, err := decrypt(t, k, outer, nil); !errors.Is(err, kmclient.ErrBadKey) {
				t.Errorf("%s, %s: error %v, want %v", suite, name, err, kmclient.ErrBadKey)
			}
		}
	}
}

// TestWiped checks that keys are wiped: those of a message that is encrypted and
// decrypted, and of two messages whose keys come with an error.
func TestWiped(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		if _, err := decrypt(t, km, outer, nil); err != nil {
			t.Fatal(err)
		}
		km.err = errors.New("not all keys came")
		if _, err := decrypt(t, km, outer, nil); !errors.Is(err, km.err) {
			t.Errorf("%s: decrypt: error %v, want %v", suite, err, km.err)
		}
		if _, err := encryptTo(t, io.Discard, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite}); !errors.Is(err, km.err) {
			t.Errorf("%s: encrypt: error %v, want %v", suite, err, km.err)
		}
		if len(km.given) < 2 || len(km.found) < 2 {
			t.Fatalf("%s: %d keys for encryption and %d for decryption, want at least 2 each", suite, len(km.given), len(km.found))
		}
		for _, k := range slices.Concat(km.given, km.found) {
			if k.Reveal() != nil {
				t.Errorf("%s: key %s is not wiped", suite, k.ID())
			}
		}
	}
}
