package storecmd

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A keyFile writes keys in clear, one at a time, as the JSON file of the reference
// system and the mock:
//
//	{"keys": {ID: base64, …}, "keys_generated": N, "last_updated": TIME}
type keyFile struct {
	w    *bufio.Writer // keeps errors until flush
	keys int           // written so far
}

func newKeyFile(w io.Writer) *keyFile {
	f := &keyFile{w: bufio.NewWriter(w)}
	_, _ = f.w.WriteString("{\n  \"keys\": {")
	return f
}

// add writes a key. Its ID is printable US-ASCII and unique.
func (f *keyFile) add(id string, key []byte) error {
	before := ",\n    "
	if f.keys++; f.keys == 1 {
		before = "\n    "
	}
	line := strconv.AppendQuote([]byte(before), id)
	line = append(base64.StdEncoding.AppendEncode(append(line, `: "`...), key), '"')
	defer clear(line)
	_, err := f.w.Write(line)
	return err
}

// end completes the file.
func (f *keyFile) end() error {
	if f.keys > 0 {
		_, _ = f.w.WriteString("\n  ")
	}
	_, _ = fmt.Fprintf(f.w, "},\n  \"keys_generated\": %d,\n  \"last_updated\": %q\n}", f.keys, time.Now().Format("2006-01-02T15:04:05.000000"))
	return f.w.Flush()
}
