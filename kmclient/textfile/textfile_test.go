package textfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	utf "unicode/utf16"
)

// inUTF16 returns text as written by an editor that calls this "Unicode".
func inUTF16(text string, order binary.AppendByteOrder, mark bool) []byte {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xFEFF)
	}
	for _, c := range utf.Encode([]rune(text)) {
		b = order.AppendUint16(b, c)
	}
	return b
}

func TestRead(t *testing.T) {
	const text = "user:hash\n"
	for _, tt := range []struct {
		name string
		file []byte
		want string
		err  error
		says string
	}{
		{"plain", []byte(text), text, nil, ""},
		{"empty", nil, "", nil, ""},
		{"UTF-8 with a mark", []byte("\uFEFF" + text), text, nil, ""},
		{"only a mark", []byte("\uFEFF"), "", nil, ""},
		{"two marks: the second is text", []byte("\uFEFF\uFEFFa"), "\uFEFFa", nil, ""},
		{"a mark further down", []byte("a\uFEFFb"), "a\uFEFFb", nil, ""},
		{"half a mark", []byte("\xEF\xBB"), "\xEF\xBB", nil, ""},
		{"one byte", []byte("x"), "x", nil, ""},
		{"one NUL", []byte("\x00"), "\x00", nil, ""},
		{"NULs all over", make([]byte, 100), string(make([]byte, 100)), nil, ""},
		{"UTF-16LE", inUTF16(text, binary.LittleEndian, true), "", ErrUTF16, "iconv -f UTF-16 -t UTF-8"},
		{"UTF-16BE", inUTF16(text, binary.BigEndian, true), "", ErrUTF16, "iconv -f UTF-16 -t UTF-8"},
		{"UTF-16LE without a mark", inUTF16(text, binary.LittleEndian, false), "", ErrUTF16, "iconv -f UTF-16LE -t UTF-8"},
		{"UTF-16BE without a mark", inUTF16(text, binary.BigEndian, false), "", ErrUTF16, "iconv -f UTF-16BE -t UTF-8"},
		{"short UTF-16LE", inUTF16("ab", binary.LittleEndian, false), "", ErrUTF16, "UTF-16LE"},
		{"UTF-16LE that is not all ASCII", inUTF16("# жозеф 1234567890", binary.LittleEndian, false), "", ErrUTF16, "UTF-16LE"},
		{"the longest", bytes.Repeat([]byte("x"), 1000), strings.Repeat("x", 1000), nil, ""},
		{"too long", bytes.Repeat([]byte("x"), 1001), "", ErrTooLong, "over 1000 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path, 1000)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Read: %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path)) {
				t.Errorf("the error does not name the file and say %q: %v", tt.says, err)
			}
		})
	}
}

func TestReadMissing(t *testing.T) {
	_, err := Read(filepath.Join(t.TempDir(), "missing"), 10)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Read(t.TempDir(), 10); err == nil {
		t.Error("a folder was read as a file")
	}
}

// TestReadSecret: a secret that other users can read is refused.
func TestReadSecret(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: Windows has no such permissions")
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o640: true, 0o440: true,
		0o644: false, 0o604: false, 0o660: false, 0o602: false, 0o666: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		text, err := ReadSecret(path, 100)
		if ok && (err != nil || string(text) != "secret") {
			t.Errorf("mode %04o: %q, %v", mode, text, err)
		}
		if !ok && (err == nil || text != nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "make it 0600")) {
			t.Errorf("mode %04o: %q, %v; want an error that names the file and says what to do", mode, text, err)
		}
	}
	if _, err := ReadSecret(path+"-", 100); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestTextIsNotUTF16: nothing that can be a UTF-8 file is mistaken for UTF-16.
func TestTextIsNotUTF16(t *testing.T) {
	for _, text := range []string{"", "a", "ab", "{}", "жозеф", "日本語日本語", strings.Repeat("€", 50), "[km]\nurl = \"mock:\"\n"} {
		if IsUTF16([]byte(text)) {
			t.Errorf("%q is taken for UTF-16", text)
		}
	}
}
