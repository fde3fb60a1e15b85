package keydb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

const reference = `{
  "keys": {
    "MOCK-KEY-00000000-20251012195642": "AAECAwQFBgcICQoLDA0ODw==",
    "a\"b\\c<&>": "EBESEw=="
  },
  "keys_generated": 7,
  "last_updated": "2025-10-12T19:56:42.123456"
}`

func TestImportExport(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		for i, want := range []int{2, 0} { // the second time there is nothing new
			if n, err := db.Import(t.Context(), iotest.OneByteReader(strings.NewReader(reference))); err != nil || n != want {
				t.Fatalf("import %d: %d, %v, want %d", i, n, err, want)
			}
		}
		put(t, db, "A/B", Grant{Master: "A", Readers: []string{"B"}}, 1) // not exported
		var out bytes.Buffer
		if err := db.Export(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		before, after, _ := strings.Cut(reference, "2025")
		if got := out.String(); !strings.HasPrefix(got, before) || len(got) != len(reference) || !json.Valid(out.Bytes()) {
			t.Errorf("exported\n%s\nwant\n%s…%s", got, before, after)
		}
		if n := count(t, db, ""); n != 2 {
			t.Errorf("%d keys counted, want 2", n)
		}
	})
}

func TestExportEmpty(t *testing.T) {
	var out bytes.Buffer
	if err := open(t, "").Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"keys\": {},\n  \"keys_generated\": 0,\n"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("exported %q, want it to begin with %q", out.String(), want)
	}
}

func TestImportRefuses(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte("never to be shown anywhere"))
	good := `"good":"` + secret + `"`
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {``, "too early"},
		"cut":              {`{"keys":{` + good, "too early"},
		"cut in a key":     {`{"keys":{"good":"` + secret, "too early"},
		"not JSON":         {`{"keys":{` + good + `,}}`, "not JSON"},
		"no object":        {`[]`, "not a JSON object"},
		"keys no object":   {`{"keys":[]}`, "not a JSON object"},
		"no keys":          {`{"keys_generated":1}`, `no member "keys"`},
		"keys twice":       {`{"keys":{},"keys":{}}`, "twice"},
		"trailing":         {`{"keys":{` + good + `}} x`, "follows"},
		"not a string":     {`{"keys":{` + good + `,"b":1}}`, "not a string"},
		"not base64":       {`{"keys":{` + good + `,"b":"` + secret + `!"}}`, "not base64"},
		"loose base64":     {`{"keys":{"b":"AB=="}}`, "not base64"},
		"line break":       {`{"keys":{"b":"AA\n=="}}`, "not base64"},
		"empty key":        {`{"keys":{` + good + `,"b":""}}`, "0 octets"},
		"bad ID":           {`{"keys":{"b c":"AAAA"}}`, "printable"},
		"bad count":        {`{"keys":{` + good + `},"keys_generated":-1}`, "no count"},
		"count of text":    {`{"keys":{` + good + `},"keys_generated":"` + secret + `"}`, "wrong type"},
		"other bytes":      {`{"keys":{` + good + `,"GOOD":"AAAA","good":"AAAA"}}`, "other bytes: good"},
		"too large a key":  {`{"keys":{` + good + `,"b":"` + base64.StdEncoding.EncodeToString(make([]byte, MaxKeySize/8+1)) + `"}}`, "octets, must be"},
		"too large a junk": {`{"keys":{` + good + `},"x":"` + strings.Repeat("A", 2*maxImportValue) + `"}`, "too large"},
		"other pool":       {`{"keys":{"elsewhere":"AAAA"}}`, "other bytes: elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, "")
			if err := db.Put(t.Context(), "pool", Grant{}, kmclient.NewKey("elsewhere", []byte{0, 0, 0})); err != nil {
				t.Fatal(err)
			}
			n, err := db.Import(t.Context(), strings.NewReader(c.text))
			if n != 0 || !errors.Is(err, ErrImport) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d, %v\nwant an ErrImport that says %q", n, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a key: %v", err)
			}
			if n := count(t, db, ""); n != 0 {
				t.Errorf("%d keys stored all the same", n)
			}
		})
	}
}

func TestImportReadError(t *testing.T) {
	broken := errors.New("the disk has gone")
	r := io.MultiReader(strings.NewReader(reference[:60]), iotest.ErrReader(broken))
	if _, err := open(t, "").Import(t.Context(), r); !errors.Is(err, broken) {
		t.Errorf("Import: %v, want %v", err, broken)
	}
}

// What kmclient's mock has written can be imported, and it reads what is exported.
func TestImportFromMock(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "from.json")
	m, err := mock.New(mock.Options{Path: from})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := m.GetKeys(t.Context(), "", 256, 20)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, filepath.Join(dir, "keys.db"))
	if n, err := db.Import(t.Context(), bytes.NewReader(text)); err != nil || n != 20 {
		t.Fatalf("Import: %d, %v", n, err)
	}
	var out bytes.Buffer
	if err := db.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "to.json")
	write(t, to, out.String())
	m, err = mock.New(mock.Options{Path: to})
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.KeysByID(t.Context(), "", keys[19].ID())
	if err != nil || !bytes.Equal(got[0].Reveal(), keys[19].Reveal()) {
		t.Errorf("the mock does not find the key again: %v, %v", got, err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(reference))
	f.Add([]byte(`{"keys":{"a":"AAAA"},"x":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		db := open(t, "")
		n, err := db.Import(t.Context(), bytes.NewReader(text))
		if stored := count(t, db, ""); stored != n || err != nil && n != 0 {
			t.Fatalf("said %d keys (%v), stored %d", n, err, stored)
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := db.Export(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		second := open(t, "")
		if m, err := second.Import(t.Context(), bytes.NewReader(out.Bytes())); err != nil || m != n {
			t.Fatalf("imported %d keys, and %d from their export (%v)", n, m, err)
		}
	})
}

// An editor's byte order mark is no part of the file; UTF-16 is refused.
func TestImportFromEditors(t *testing.T) {
	if n, err := open(t, "").Import(t.Context(), iotest.OneByteReader(strings.NewReader("\uFEFF"+reference))); n != 2 || err != nil {
		t.Errorf("behind a byte order mark: %d keys, %v; want 2", n, err)
	}
	utf16 := "\xFF\xFE" + strings.Join(strings.Split(reference, ""), "\x00") + "\x00"
	if n, err := open(t, "").Import(t.Context(), strings.NewReader(utf16)); n != 0 || !errors.Is(err, ErrImport) || !strings.Contains(err.Error(), "iconv") {
		t.Errorf("UTF-16: %d keys, %v; want an ErrImport that says how to convert it", n, err)
	}
}
