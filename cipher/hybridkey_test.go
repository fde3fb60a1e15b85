package cipher_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

const (
	publicType  = "QKDMAIL X-WING PUBLIC KEY"
	privateType = "QKDMAIL X-WING PRIVATE KEY"
)

func pemBlock(kind string, data []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
}

// counted returns the bytes 0, 1, 2 and so on.
func counted(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// revealed returns the text of a private key.
func revealed(t testing.TB, key *cipher.HybridPrivateKey) []byte {
	t.Helper()
	text, err := key.RevealPEM()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestHybridKeyFiles writes keys and reads them again.
func TestHybridKeyFiles(t *testing.T) {
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	text := revealed(t, key)
	if again := revealed(t, key); !bytes.Equal(again, text) {
		t.Error("a private key differs when it is revealed again: the first file would be useless")
	}
	private, err := cipher.ParseHybridPrivateKey(text)
	if err != nil || !bytes.Equal(revealed(t, private), text) || private.Public().Fingerprint() != key.Public().Fingerprint() {
		t.Errorf("the private key came back as a different one, or with error %v", err)
	}
	public, err := cipher.ParseHybridPublicKey(key.Public().PEM())
	if err != nil || !bytes.Equal(public.PEM(), key.Public().PEM()) || public.Fingerprint() != key.Public().Fingerprint() {
		t.Errorf("the public key came back as a different one, or with error %v", err)
	}
	other, err := cipher.GenerateHybridKey()
	if err != nil || other.Public().Fingerprint() == key.Public().Fingerprint() {
		t.Errorf("two new keys are the same, or error %v", err)
	}
	for name, text := range map[string][]byte{
		"CRLF":          bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"blanks around": []byte(" \n\n" + string(text) + " \n"),
		"no line end":   bytes.TrimSpace(text),
	} {
		if _, err := cipher.ParseHybridPrivateKey(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHybridKeyFingerprint: the example of docs/format.md, section 10.
func TestHybridKeyFingerprint(t *testing.T) {
	const want = "c9a3565ffde4f72b51661be391ee13e46378d7f06dd5c8bf5af9d2cfb5b8336b"
	if got := hybridKey().Public().Fingerprint().String(); got != want {
		t.Errorf("the seed 00 01 … 1f has the fingerprint %s, want %s", got, want)
	}
}

// TestHybridKeyErrors: a key file is read whole or refused, and the error shows none of
// it.
func TestHybridKeyErrors(t *testing.T) {
	seed := []byte("the seed must never show up here")
	private := pemBlock(privateType, seed)
	public := string(hybridKey().Public().PEM())
	publicBytes, _ := pem.Decode([]byte(public))
	lowOrder := bytes.Clone(publicBytes.Bytes)
	clear(lowOrder[1184:])
	modulus := bytes.Clone(publicBytes.Bytes)
	modulus[0], modulus[1] = 0xff, 0xff
	header := func(text string) string { return strings.Replace(text, "KEY-----\n", "KEY-----\nProc-Type: 4\n\n", 1) }
	for name, c := range map[string]struct{ private, public string }{
		"empty":            {"", ""},
		"blank":            {" \n", " \n"},
		"no PEM":           {"AAECAwQF", "AAECAwQF"},
		"short":            {pemBlock(privateType, seed[:31]), pemBlock(publicType, publicBytes.Bytes[:1215])},
		"long":             {pemBlock(privateType, append(seed, '!')), pemBlock(publicType, append(bytes.Clone(publicBytes.Bytes), 0))},
		"no content":       {pemBlock(privateType, nil), pemBlock(publicType, nil)},
		"the other half":   {public, private},
		"another kind":     {pemBlock("PRIVATE KEY", seed), pemBlock("PUBLIC KEY", publicBytes.Bytes)},
		"two":              {private + private, public + public},
		"with the other":   {private + public, public + private},
		"headers":          {header(private), header(public)},
		"text before":      {"key:\n" + private, "key:\n" + public},
		"text after":       {private + "key\n", public + "key\n"},
		"cut short":        {private[:60], public[:900]},
		"a broken one":     {private[:60] + "\n" + private, public[:900] + "\n" + public},
		"no end":           {strings.TrimSuffix(private, "-----\n"), strings.TrimSuffix(public, "-----\n")},
		"not base64":       {strings.Replace(private, "=", "!", 1), strings.Replace(public, "A", "!", 9)},
		"no public key":    {"", pemBlock(publicType, modulus)},
		"no point":         {"", pemBlock(publicType, lowOrder)},
		"lower case label": {strings.ToLower(private), strings.ToLower(public)},
	} {
		_, err := cipher.ParseHybridPrivateKey([]byte(c.private))
		checkKeyError(t, name+", private", err, seed)
		_, err = cipher.ParseHybridPublicKey([]byte(c.public))
		checkKeyError(t, name+", public", err, seed)
	}
}

func checkKeyError(t *testing.T, name string, err error, seed []byte) {
	t.Helper()
	if !errors.Is(err, cipher.ErrOptions) {
		t.Errorf("%s: error %v, want %v", name, err, cipher.ErrOptions)
		return
	}
	checkNoSeed(t, name, err.Error(), seed)
}

// checkNoSeed fails if a text shows a part of a seed.
func checkNoSeed(t *testing.T, name, text string, seed []byte) {
	t.Helper()
	part := seed[:6]
	for _, form := range []string{
		string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
		base64.StdEncoding.EncodeToString(part), strings.Trim(fmt.Sprint(part), "[]"), fmt.Sprintf("%#v", part)[8:],
	} {
		if strings.Contains(text, strings.Trim(form, "{}")) {
			t.Errorf("%s: shows the seed: %.200s", name, text)
		}
	}
}

// TestHybridKeyHidden prints and logs a private key in every possible way.
func TestHybridKeyHidden(t *testing.T) {
	seed := []byte("the seed must never show up here")
	key, err := cipher.ParseHybridPrivateKey([]byte(pemBlock(privateType, seed)))
	if err != nil {
		t.Fatal(err)
	}
	holder := struct {
		Key    *cipher.HybridPrivateKey
		hidden *cipher.HybridPrivateKey
		Keys   []*cipher.HybridPrivateKey
	}{key, key, []*cipher.HybridPrivateKey{key}}
	for _, verb := range "vsqxXdobcUeEfFgGtTp" {
		for _, flag := range []string{"", "+", "#", " ", "-", "0", "+#"} {
			format := "%" + flag + string(verb)
			for name, value := range map[string]any{
				"key": key, "value": *key, "pointer": &key, "struct": holder, "options": cipher.DecryptOptions{Hybrid: holder.Keys},
			} {
				checkNoSeed(t, format+" of "+name, fmt.Sprintf(format, value), seed)
			}
		}
	}
	if got, want := fmt.Sprintf("%#v", key), "X-Wing private key "+key.Public().Fingerprint().String(); got != want {
		t.Errorf("%%#v prints %q, want %q", got, want)
	}
	var log bytes.Buffer
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))} {
		l.Info("key", "key", key, "value", *key, "struct", holder)
	}
	text, err := json.Marshal(map[string]any{"key": key, "value": *key, "struct": holder})
	if err != nil {
		t.Fatal(err)
	}
	checkNoSeed(t, "log and JSON", log.String()+string(text), seed)
}

// FuzzHybridKey reads key files. A readable one is exactly one block, and is written as
// the same key.
func FuzzHybridKey(f *testing.F) {
	private, public := pemBlock(privateType, counted(32)), string(hybridKey().Public().PEM())
	for _, s := range []string{"", private, public, private + public, "x" + public, strings.ReplaceAll(private, "\n", "\r\n")} {
		f.Add([]byte(s))
	}
	check := func(t *testing.T, text []byte, err error, written func() []byte) {
		t.Helper()
		if err != nil {
			if !errors.Is(err, cipher.ErrOptions) {
				t.Errorf("error %v, want %v", err, cipher.ErrOptions)
			}
			return
		}
		block, _ := pem.Decode(text)
		if !bytes.Equal(written(), pem.EncodeToMemory(block)) || bytes.Count(text, []byte("-----BEGIN")) != 1 {
			t.Errorf("%q was read as a key", text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		private, err := cipher.ParseHybridPrivateKey(text)
		check(t, text, err, func() []byte { return revealed(t, private) })
		public, err := cipher.ParseHybridPublicKey(text)
		check(t, text, err, func() []byte { return public.PEM() })
	})
}
