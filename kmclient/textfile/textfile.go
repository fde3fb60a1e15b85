// Package textfile reads the text files that people write for a program:
// configurations, passwords, keys, PEM files with certificates. Editors on some systems
// begin such a file with a UTF-8 byte order mark, which is not part of its text. Or
// they write it as UTF-16, which no reader of these files understands, and which some
// take for an empty file.
package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

var (
	// ErrUTF16: the file is UTF-16. The error says how to convert it.
	ErrUTF16 = errors.New("UTF-16 text")
	// ErrTooLong: the file is longer than its reader takes.
	ErrTooLong = errors.New("too long")
)

const utf8Mark = "\xEF\xBB\xBF"

// lookAhead is how many bytes at the start of a text are enough to recognise UTF-16.
const lookAhead = 64

// Read returns the text of a file of at most limit bytes, without a byte order mark at
// its start. If the file is longer, the error is [ErrTooLong]; if it is UTF-16,
// [ErrUTF16]. Errors name the file. The text may be secret: Read leaves no other copy
// of it behind.
func Read(path string, limit int64) ([]byte, error) { return read(path, limit, nil) }

// ReadSecret is Read for a file that only its owner, and perhaps a group, may read. If
// other users can read it, ReadSecret fails. Windows has no such permissions.
func ReadSecret(path string, limit int64) ([]byte, error) {
	return read(path, limit, func(info os.FileInfo) error {
		const allowed = 0o740
		if mode := info.Mode().Perm(); mode&^allowed != 0 && runtime.GOOS != "windows" {
			return fmt.Errorf("it is secret, and its mode is %04o: make it 0600, or 0640 for a group", mode)
		}
		return nil
	})
}

func read(path string, limit int64, check func(os.FileInfo) error) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && check != nil {
		err = check(info)
	}
	if err != nil {
		return nil, withName(path, err)
	}
	b, err := readAll(f, info.Size(), limit)
	if err == nil {
		var text []byte
		if text, err = Decode(b); err == nil {
			return text, nil
		}
		clear(b)
	}
	return nil, withName(path, err)
}

// withName returns an error that names the file.
func withName(path string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe
	}
	return fmt.Errorf("%s: %w", path, err)
}

// readAll reads r to its end. size is how many bytes r is likely to have.
func readAll(r io.Reader, size, limit int64) ([]byte, error) {
	b := make([]byte, 0, min(max(size, lookAhead), limit)+1) // room for the read that meets the end
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			clear(b)
			return nil, fmt.Errorf("%w: over %d bytes", ErrTooLong, limit)
		case err == io.EOF:
			return b, nil
		case err != nil:
			clear(b)
			return nil, err
		case len(b) == cap(b):
			grown := append(make([]byte, 0, 2*cap(b)), b...)
			clear(b)
			b = grown
		}
	}
}

// Decode returns text without a byte order mark at its start, as part of b. If the text
// is UTF-16, the error is [ErrUTF16].
func Decode(b []byte) ([]byte, error) {
	if name := utf16(b); name != "" {
		return nil, fmt.Errorf("%w, not UTF-8: convert it, for example with: iconv -f %s -t UTF-8 OLD >NEW", ErrUTF16, name)
	}
	return bytes.TrimPrefix(b, []byte(utf8Mark)), nil
}

// IsUTF16 reports whether a text that starts with these bytes is UTF-16.
func IsUTF16(start []byte) bool { return utf16(start) != "" }

// utf16 returns iconv(1)'s name for the encoding of a text that starts with these bytes
// if it is UTF-16: it has a byte order mark or, as far as its characters are ASCII, a
// NUL in every second byte.
func utf16(start []byte) string {
	if bytes.HasPrefix(start, []byte{0xFF, 0xFE}) || bytes.HasPrefix(start, []byte{0xFE, 0xFF}) {
		return "UTF-16"
	}
	start = start[:min(len(start), lookAhead)&^1]
	var nuls [2]int // at even and odd places
	for i, c := range start {
		if c == 0 {
			nuls[i%2]++
		}
	}
	enough := max(2, len(start)/4) // half of the characters
	switch {
	case nuls[0] == 0 && nuls[1] >= enough:
		return "UTF-16LE"
	case nuls[1] == 0 && nuls[0] >= enough:
		return "UTF-16BE"
	}
	return ""
}
