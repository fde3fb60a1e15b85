package cipher_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// writeVectors adds vectors. Those that exist never change: other implementations
// may have them.
var writeVectors = flag.Bool("write-vectors", false, "write vectors that testdata/vectors does not have")

// vectorErrors are the errors that a reject vector may expect of this package and
// of the independent reader, by their names in its file. A reader that streams and
// one that does not may report a fault in two ways: then the file names both.
var vectorErrors = map[string]struct{ ours, independent error }{
	"not-encrypted": {cipher.ErrNotEncrypted, errIndNotOurs},
	"damaged":       {cipher.ErrDamaged, errIndDamaged},
	"version":       {cipher.ErrVersion, errIndVersion},
	"suite":         {cipher.ErrSuite, errIndSuite},
	"sae":           {cipher.ErrSAE, errIndSAE},
	"wrong-key":     {cipher.ErrWrongKey, errIndKey},
	"bad-key":       {kmclient.ErrBadKey, errIndKey},
	"no-key":        {kmclient.ErrKeyNotFound, errIndKey},
	"altered":       {cipher.ErrAltered, errIndAltered},
}

// A vector is a message with everything that is needed to read it. Its file has
// lines "name: value", an empty line, and the message.
type vector struct {
	comment   string
	expect    []string // names of errors; none: it can be decrypted
	sae, peer string
	ids       []string
	keys      map[string][]byte
	plaintext []byte
	message   []byte
}

// readVector reads a file. It returns size and SHA-256 of the plaintext as well.
func readVector(t *testing.T, file string) (v vector, size int, sum string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, message, _ := bytes.Cut(text, []byte("\n\n"))
	v.message = message
	v.keys = map[string][]byte{}
	for line := range strings.SplitSeq(string(head), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "comment":
		case "expect":
			v.expect = strings.Fields(value)
		case "plaintext-size":
			_, err = fmt.Sscan(value, &size)
		case "plaintext-sha256":
			sum = value
		case "sae":
			v.sae = value
		case "peer":
			v.peer = value
		case "key":
			id, key, _ := strings.Cut(value, " ")
			v.keys[id], err = hex.DecodeString(key)
		default:
			err = fmt.Errorf("unknown line %q", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return v, size, sum
}

// KeysByID makes a vector a key finder, for which the spelling of IDs matters.
func (v *vector) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	var keys []*kmclient.Key
	for _, id := range ids {
		key, ok := v.keys[id]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(key)))
	}
	return keys, nil
}

// TestVectors decrypts every vector with this package and with the independent
// reader.
func TestVectors(t *testing.T) {
	dir := filepath.Join("..", "testdata", "vectors")
	if *writeVectors {
		makeVectors(t, dir)
	}
	for _, class := range []string{"accept", "reject"} {
		files, err := filepath.Glob(filepath.Join(dir, class, "*.txt"))
		if err != nil || len(files) < 15 {
			t.Fatalf("%d vectors in %s, %v; want at least 15", len(files), class, err)
		}
		for _, file := range files {
			t.Run(class+"/"+strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
				v, size, sum := readVector(t, file)
				if (class == "reject") != (len(v.expect) > 0) {
					t.Fatalf("expect %q in class %s", v.expect, class)
				}
				opts := &cipher.DecryptOptions{SAE: v.sae}
				if v.peer != "" {
					opts.Peers = []string{v.peer}
				}
				got, err := decrypt(t, &v, v.message, opts)
				checkVector(t, "this package", &v, size, sum, got, err)
				got, err = independentOpen(v.message, v.keys, v.sae, v.peer)
				checkVector(t, "the independent reader", &v, size, sum, got, err)
			})
		}
	}
}

func checkVector(t *testing.T, reader string, v *vector, size int, sum string, got []byte, err error) {
	t.Helper()
	if len(v.expect) == 0 {
		if gotSum := fmt.Sprintf("%x", sha256.Sum256(got)); err != nil || len(got) != size || gotSum != sum {
			t.Errorf("%s: %d bytes with sum %s, error %v; want %d with %s", reader, len(got), gotSum, err, size, sum)
		}
		return
	}
	for _, name := range v.expect {
		want, ok := vectorErrors[name]
		if !ok {
			t.Fatalf("unknown error %q in the vector", name)
		}
		if errors.Is(err, want.ours) || errors.Is(err, want.independent) {
			return
		}
	}
	t.Errorf("%s: error %v, want %q", reader, err, v.expect)
}
