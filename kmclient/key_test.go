package kmclient

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func TestKeyHidesItsBytes(t *testing.T) {
	secret := fakekm.RandomBytes(32)
	k := NewKey("key-1", secret)
	inside := struct{ Keys []*Key }{[]*Key{k}}

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d"} {
		for _, value := range []any{k, inside.Keys, inside} {
			if text := fmt.Sprintf(verb, value); fakekm.Shows(text, secret) {
				t.Errorf("fmt shows the key with %s in a %T", verb, value)
			}
		}
	}
	if text := fmt.Sprintf("%v", k); !strings.Contains(text, "key-1") || !strings.Contains(text, "256") {
		t.Errorf("a printed key is %q: its ID and size should be in it", text)
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("test", "key", k, "keys", inside.Keys, "inside", inside)
		if fakekm.Shows(b.String(), secret) {
			t.Errorf("slog's %s handler shows the key", name)
		}
	}
	text, err := json.Marshal(inside)
	if err != nil {
		t.Fatalf("a key can't be marshalled: %v", err)
	}
	if fakekm.Shows(string(text), secret) || !bytes.Contains(text, []byte(`"key_size":256`)) {
		t.Error("encoding/json shows the key, or not its size")
	}
}

func TestKeyRevealAndWipe(t *testing.T) {
	secret := fakekm.RandomBytes(16)
	want := bytes.Clone(secret)
	k := NewKey("key-1", secret)
	if !bytes.Equal(k.Reveal(), want) {
		t.Error("Reveal does not give the key")
	}
	text, err := k.RevealJSON()
	if err != nil {
		t.Fatalf("RevealJSON: %v", err)
	}
	var shown map[string]any
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatalf("RevealJSON does not write JSON: %v", err)
	}
	if shown["key_id"] != "key-1" || shown["key_size"] != 128.0 || shown["timestamp"] == "" ||
		shown["key"] != base64.StdEncoding.EncodeToString(want) {
		t.Error("RevealJSON is not the reference system's key_id, key, key_size, timestamp")
	}

	WipeAll([]*Key{k, k})
	if !bytes.Equal(secret, make([]byte, 16)) {
		t.Error("Wipe leaves bytes of the key")
	}
	if k.Reveal() != nil {
		t.Error("a wiped key still reveals something")
	}
	if k.ID() != "key-1" || k.Size() != 128 || k.Info().State != StateInUse {
		t.Errorf("a wiped key forgot what it was: %+v", k.Info())
	}
}

func TestCheckID(t *testing.T) {
	for id, good := range map[string]bool{
		"a": true, "MOCK-KEY-00000001-20251012195642": true, "a/b?c#d%2f": true, "..": true,
		strings.Repeat("x", MaxIDLength): true, strings.Repeat("x", MaxIDLength+1): false,
		"": false, "a b": false, "a\n": false, "a\x00": false, "schlüssel": false, "\x7f": false, "\xff": false,
	} {
		err := CheckID(id)
		if good && err != nil || !good && !errors.Is(err, ErrBadKey) {
			t.Errorf("CheckID(%q) = %v, want good: %t", id, err, good)
		}
	}
}

func TestCanonicalID(t *testing.T) {
	const id = "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c"
	for in, want := range map[string]string{
		id:                                     id,
		strings.ToUpper(id):                    id,
		"{" + id + "}":                         id,
		"urn:uuid:" + id:                       id,
		strings.ReplaceAll(id, "-", ""):        id,
		"X" + id + "Y":                         "X" + id + "Y",
		id + "0":                               id + "0",
		"MOCK-KEY-00000001-20251012195641":     "MOCK-KEY-00000001-20251012195641",
		"mock-key-00000001-20251012195641":     "mock-key-00000001-20251012195641",
		"9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1x": "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1x",
	} {
		if got := CanonicalID(in); got != want {
			t.Errorf("CanonicalID(%q) = %q, want %q", in, got, want)
		}
	}
}
