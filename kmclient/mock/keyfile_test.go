package mock

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

// unreadableFiles are files that the mock must refuse. key is a member of "keys".
func unreadableFiles(key string) map[string]string {
	return map[string]string{
		"empty":                  "",
		"white space":            " \n",
		"text":                   "keys",
		"half a file":            `{"keys":{` + key[:len(key)-9],
		"half a file, later":     `{"keys":{` + key + `},"keys_gen`,
		"no comma":               `{"keys":{` + key + `}"keys_generated":1}`,
		"comma at the end":       `{"keys":{` + key + `},}`,
		"trailing text":          `{"keys":{` + key + `}}x`,
		"trailing object":        `{"keys":{` + key + `}}{}`,
		"a list":                 `[{"keys":{` + key + `}}]`,
		"null":                   "null",
		"no keys":                `{"keys_generated":1}`,
		"keys null":              `{"keys":null}`,
		"keys a list":            `{"keys":["` + strings.Repeat("A", 43) + `="]}`,
		"keys twice":             `{"keys":{},"keys":{` + key + `}}`,
		"unknown member twice":   `{"keys":{` + key + `},"a":1,"a":1}`,
		"key a number":           `{"keys":{"a":1}}`,
		"key null":               `{"keys":{"a":null}}`,
		"key an object":          `{"keys":{"a":{` + key + `}}}`,
		"key of no bytes":        `{"keys":{"a":""}}`,
		"bad base64":             `{"keys":{"a":"AAAA*AAA"}}`,
		"base64 without end":     `{"keys":{"a":"AAAAAA"}}`,
		"base64 with rest bits":  `{"keys":{"a":"AAAAAB=="}}`,
		"base64 with line break": `{"keys":{"a":"AAAA\nAAAA"}}`,
		"the same ID twice":      `{"keys":{` + key + `,` + key + `}}`,
		"the same UUID twice": `{"keys":{"9b42e9e2-0a1b-4c2d-8e3f-0123456789ab":"AAAA",
			"9B42E9E2-0A1B-4C2D-8E3F-0123456789AB":"AAAB"}}`,
		"empty ID":                 `{"keys":{"":"AAAA"}}`,
		"ID with a space":          `{"keys":{"a b":"AAAA"}}`,
		"counter negative":         `{"keys":{},"keys_generated":-1}`,
		"counter a fraction":       `{"keys":{},"keys_generated":1.5}`,
		"counter text":             `{"keys":{},"keys_generated":"1"}`,
		"counter null":             `{"keys":{},"keys_generated":null}`,
		"counter out of range":     `{"keys":{},"keys_generated":123456789012345678901234567890}`,
		"time a number":            `{"keys":{},"last_updated":1}`,
		"states a list":            `{"keys":{},"key_states":[]}`,
		"states null":              `{"keys":{},"key_states":null}`,
		"a state that is none":     `{"keys":{"a":"AAAA"},"key_states":{"a":"lost"}}`,
		"a state that is a number": `{"keys":{"a":"AAAA"},"key_states":{"a":1}}`,
		"name not text":            "{\"keys\":{},\"\xff\":1}",
		"NaN":                      `{"keys":{},"rate":NaN}`,
	}
}

// TestFileFromPython reads files that Python's json.dump(…, indent=2) wrote, and writes
// them in the same form.
func TestFileFromPython(t *testing.T) {
	for name, keys := range map[string]int{"reference.json": 3, "extended.json": 5} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseKeyFile(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(f.keys) != keys || f.generated != 3 || f.updated != "2025-10-12T19:56:42.123456" {
			t.Errorf("%s: %d keys, %d generated, updated %q", name, len(f.keys), f.generated, f.updated)
		}
		if got := f.encode(); !bytes.Equal(got, data) {
			t.Errorf("%s: is written as\n%s", name, got)
		}
	}
}

// TestKeepsTheFile changes a file with members and IDs from other programs.
func TestKeepsTheFile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "extended.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMock(t, path)
	k, err := m.KeysByID(t.Context(), "", "9b42e9e2-0000-4000-8000-0123456789ab")
	if err != nil || k[0].ID() != "9B42E9E2-0000-4000-8000-0123456789AB" {
		t.Errorf("a UUID in other case: %v, %v", k, err)
	}
	fresh := getKeys(t, m, 1)[0]
	if err := m.CloseKey(t.Context(), fresh.ID()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	updated := regexp.MustCompile(`"last_updated": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}"`)
	want := updated.ReplaceAll(bytes.Replace(data, []byte(`"keys_generated": 3`), []byte(`"keys_generated": 4`), 1), nil)
	if !bytes.Equal(updated.ReplaceAll(got, nil), want) {
		t.Errorf("a key that came and went changed more than the counter and the time:\n%s", got)
	}
}

func TestFileWithoutCounter(t *testing.T) {
	f, err := parseKeyFile([]byte(`{"keys":{"a":"AAAB","b":"AAAC"}}`))
	if err != nil || f.generated != 2 {
		t.Fatalf("a file with keys only: %+v, %v", f, err)
	}
	const want = "{\n  \"keys\": {\n    \"a\": \"AAAB\",\n    \"b\": \"AAAC\"\n  },\n  \"keys_generated\": 2,\n  \"last_updated\": \"\"\n}"
	if got := f.encode(); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestFileRemove(t *testing.T) {
	f := newKeyFile()
	for _, id := range []string{"a", "b", "c", "d"} {
		f.add(id, []byte(id))
	}
	if !f.remove("b") || f.remove("b") || f.remove("x") || f.add("c", []byte("c")) {
		t.Error("remove or add is wrong about what is there")
	}
	for _, id := range []string{"a", "c", "d"} {
		if k, ok := f.find(id); !ok || k.id != id || string(k.secret) != id {
			t.Errorf("after b was removed, %s is %q", id, k.id)
		}
	}
}

// FuzzFile parses any bytes: nothing may panic, and what is accepted is written back
// without loss.
func FuzzFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parseKeyFile(data)
		if err != nil {
			return
		}
		written := first.encode()
		second, err := parseKeyFile(written)
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%q", err, written)
		}
		same := func(a, b storedKey) bool { return a.id == b.id && bytes.Equal(a.secret, b.secret) }
		if !slices.EqualFunc(first.keys, second.keys, same) {
			t.Errorf("keys changed: %q became %q", data, written)
		}
		if first.generated != second.generated || first.updated != second.updated || len(first.members) != len(second.members) {
			t.Errorf("counter, time or members changed: %q became %q", data, written)
		}
		if again := second.encode(); !bytes.Equal(again, written) {
			t.Errorf("written differently the second time: %q, then %q", written, again)
		}
	})
}

// TestFileFromEditors: an editor's byte order mark is not part of the content, and a
// file in UTF-16 is left as it is, with an error that says what to do.
func TestFileFromEditors(t *testing.T) {
	const text = `{"keys":{"a":"AAECAwQFBgcICQoLDA0ODw=="}}`
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\uFEFF" + text)
	m := newMock(t, path)
	if k, err := m.KeysByID(t.Context(), "", "a"); err != nil || len(k) != 1 {
		t.Errorf("a key after a byte order mark: %v", err)
	}
	getKeys(t, m, 1)
	if err := m.CloseKey(t.Context(), "a"); err != nil {
		t.Errorf("close a key that was after a byte order mark: %v", err)
	}
	for _, utf16 := range []string{
		"\xFF\xFE" + strings.Join(strings.Split(text, ""), "\x00") + "\x00",
		"\x00" + strings.Join(strings.Split(text, ""), "\x00"),
	} {
		write(utf16)
		_, err := newMock(t, path).GetKeys(t.Context(), "", 256, 1)
		if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "iconv") {
			t.Errorf("a file in UTF-16: %v, want an ErrStore that says how to convert it", err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != utf16 {
			t.Errorf("the file was touched (%v)", err)
		}
	}
}
