package keydb

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A FileWriter writes keys, in clear, as the reference system's JSON file, one
// by one: {"keys": {ID: base64, …}, "keys_generated": N, "last_updated": TIME}.
type FileWriter struct {
	w *bufio.Writer
	n int
}

// NewFileWriter returns one that writes to w. Nothing is complete before Close.
func NewFileWriter(w io.Writer) *FileWriter {
	f := &FileWriter{w: bufio.NewWriter(w)}
	_, _ = f.w.WriteString("{\n  \"keys\": {") // errors of a bufio.Writer stay
	return f
}

// Add writes a key. Its ID is printable US-ASCII, and comes once.
func (f *FileWriter) Add(id string, octets []byte) error {
	before := ",\n    "
	if f.n++; f.n == 1 {
		before = "\n    "
	}
	line := strconv.AppendQuote([]byte(before), id)
	line = append(base64.StdEncoding.AppendEncode(append(line, `: "`...), octets), '"')
	defer clear(line)
	_, err := f.w.Write(line)
	return err
}

// Len returns how many keys there are so far.
func (f *FileWriter) Len() int { return f.n }

// Close completes the file; generated is how many keys there have been. It does
// not close what is behind it.
func (f *FileWriter) Close(generated int64) error {
	if f.n > 0 {
		_, _ = f.w.WriteString("\n  ")
	}
	_, _ = fmt.Fprintf(f.w, "},\n  \"keys_generated\": %d,\n  \"last_updated\": %q\n}", generated, time.Now().Format("2006-01-02T15:04:05.000000"))
	return f.w.Flush()
}
