package cipher_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

const vectorDir = "../testdata/vectors" // its README.md defines the file format

// writeVectors adds vectors. Those that exist never change: other implementations
// may have them.
var writeVectors = flag.Bool("write-vectors", false, "write vectors that testdata/vectors does not have")

// vectorErrors are the errors that a reject vector may expect from this package and
// from the independent reader, by their names in its file. A reader that streams and
// one that does not may report the same fault differently: then the file names both
// errors.
var vectorErrors = map[string]struct{ ours, independent error }{
	"not-encrypted": {cipher.ErrNotEncrypted, errIndNotOurs},
	"damaged":       {cipher.ErrDamaged, errIndDamaged},
	"version":       {cipher.ErrVersion, errIndVersion},
	"suite":         {cipher.ErrSuite, errIndSuite},
	"sae":           {cipher.ErrSAE, errIndSAE},
	"no-hybrid-key": {cipher.ErrHybridKey, errIndHybrid},
	"wrong-key":     {cipher.ErrWrongKey, errIndKey},
	"bad-key":       {kmclient.ErrBadKey, errIndKey},
	"no-key":        {kmclient.ErrKeyNotFound, errIndKey},
	"altered":       {cipher.ErrAltered, errIndAltered},
}

// A vector is a message with everything that is needed to read it.
type vector struct {
	comment    string
	expect     []string // names of errors; none: it can be decrypted
	released   int      // bytes of the message that a reader releases; if it is refused, at most
	sum        string   // SHA-256 of these
	asked      int      // keys that a reader asks for; if it is refused, at most
	sae, peer  string
	ids        []string
	keys       map[string][]byte
	seeds      [][]byte // private keys for X-Wing
	recipients []string
	message    []byte
}

func readVector(t *testing.T, file string) *vector {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, message, _ := bytes.Cut(text, []byte("\n\n"))
	v := &vector{message: message, keys: map[string][]byte{}}
	for line := range strings.SplitSeq(string(head), "\n") {
		if err := v.readLine(line); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return v
}

func (v *vector) readLine(line string) (err error) {
	name, value, _ := strings.Cut(line, ": ")
	switch name {
	case "comment":
		v.comment = value
	case "expect":
		v.expect = strings.Fields(value)
	case "released":
		_, err = fmt.Sscan(value, &v.released, &v.sum)
	case "asked":
		_, err = fmt.Sscan(value, &v.asked)
	case "sae":
		v.sae = value
	case "peer":
		v.peer = value
	case "key":
		id, key, _ := strings.Cut(value, " ")
		v.ids = append(v.ids, id)
		v.keys[id], err = hex.DecodeString(key)
	case "hybrid-key":
		var seed []byte
		seed, err = hex.DecodeString(value)
		v.seeds = append(v.seeds, seed)
	case "recipient":
		v.recipients = append(v.recipients, value)
	default:
		err = fmt.Errorf("unknown line %q", line)
	}
	return err
}

// A vectorFinder finds the keys of a vector. The spelling of their IDs matters.
type vectorFinder struct {
	keys  map[string][]byte
	asked int // keys
}

func (f *vectorFinder) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	f.asked += len(ids)
	var keys []*kmclient.Key
	for _, id := range ids {
		key, ok := f.keys[id]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(key)))
	}
	return keys, nil
}

// foundEarly are vectors in which this package asks for fewer keys, and releases less,
// than a reader may: it decodes base64 in blocks longer than their payload, and reads
// the recipient list as it arrives.
var foundEarly = map[string]bool{
	"base64-padding-bits": true, "base64-trailing": true, "base64-blank": true, "otp-x-wing-recipients-4097": true,
}

// TestVectors decrypts every vector with this package and with the independent
// reader.
func TestVectors(t *testing.T) {
	if *writeVectors {
		makeVectors(t)
	}
	for _, class := range []string{"accept", "reject"} {
		files, err := filepath.Glob(filepath.Join(vectorDir, class, "*.txt"))
		if err != nil || len(files) < 50 {
			t.Fatalf("%d vectors in %s, %v; want at least 50", len(files), class, err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".txt")
			t.Run(class+"/"+name, func(t *testing.T) {
				v := readVector(t, file)
				if (class == "reject") != (len(v.expect) > 0) {
					t.Fatalf("expect %q in class %s", v.expect, class)
				}
				ours := v.openOurs(t)
				v.check(t, "this package", ours)
				if (ours.asked != v.asked || len(ours.message) != v.released) != foundEarly[name] {
					t.Errorf("this package streams: it asked for %d keys and released %d bytes, but the vector says %d and %d", ours.asked, len(ours.message), v.asked, v.released)
				}
				r := &indReader{keys: v.keys, seeds: v.seeds, sae: v.sae, peer: v.peer}
				message, recipients, err := r.open(v.message)
				v.check(t, "the independent reader", opened{message, recipients, r.asked, err})
			})
		}
	}
}

// opened is what a reader makes of a vector.
type opened struct {
	message    []byte
	recipients [][]byte // digests
	asked      int      // keys
	err        error
}

func (v *vector) openOurs(t *testing.T) (o opened) {
	t.Helper()
	opts := &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: v.sae}
	if v.peer != "" {
		opts.Peers = []string{v.peer}
	}
	for _, seed := range v.seeds {
		key, err := cipher.ParseHybridPrivateKey([]byte(pemBlock(privateType, seed)))
		if err != nil {
			t.Fatal(err)
		}
		opts.Hybrid = append(opts.Hybrid, key)
	}
	finder := &vectorFinder{keys: v.keys}
	defer func() { o.asked = finder.asked }()
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(v.message), finder, opts)
	if err != nil {
		return opened{err: err}
	}
	recipients, err := r.Recipients()
	if err != nil {
		return opened{err: err}
	}
	for _, digest := range recipients {
		o.recipients = append(o.recipients, digest[:])
	}
	o.message, o.err = io.ReadAll(r)
	return o
}

func (v *vector) check(t *testing.T, reader string, o opened) {
	t.Helper()
	if o.asked > v.asked || len(o.message) > v.released {
		t.Errorf("%s: asked for %d keys and released %d bytes, want at most %d and %d", reader, o.asked, len(o.message), v.asked, v.released)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(o.message))
	if len(o.message) == v.released && sum != v.sum || !bytes.HasPrefix(vectorMessage(v.released), o.message) {
		t.Errorf("%s: released %d bytes that are not in the message", reader, len(o.message))
	}
	if len(v.expect) > 0 {
		v.checkError(t, reader, o.err)
		return
	}
	if o.err != nil || len(o.message) != v.released || o.asked != v.asked {
		t.Errorf("%s: %d bytes, %d keys, error %v; want %d bytes, %d keys", reader, len(o.message), o.asked, o.err, v.released, v.asked)
	}
	if len(o.recipients) != len(v.recipients) {
		t.Fatalf("%s: sealed for %d recipients, want %d", reader, len(o.recipients), len(v.recipients))
	}
	for i, address := range v.recipients {
		if !bytes.Equal(o.recipients[i], indDigest(address)) {
			t.Errorf("%s: recipient %d is not %s", reader, i, address)
		}
	}
}

func (v *vector) checkError(t *testing.T, reader string, err error) {
	t.Helper()
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
