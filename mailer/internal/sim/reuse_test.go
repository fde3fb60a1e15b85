package sim

import (
	"bytes"
	"context"
	"os"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// second returns another message that a site seals under the first key of a message that
// it has sent, for recipients, nil if it can't. Its relays never do that: whoever has taken
// over the site may, and so may a program that does not remember which keys it has used.
func (w *world) second(from *site, seen *delivery, rcpts []string) []byte {
	first := readCiphertext(seen.data)
	key := w.keyOf(first.ids[0])
	if key == nil {
		return nil
	}
	opts := &cipher.EncryptOptions{
		Suite: cipher.Suite(first.suite).Plain(), SAE: from.sae, Peer: key.slave.sae, Recipients: rcpts, CRLF: true, Time: time.Now(),
	}
	if first.hybrid() {
		text, err := os.ReadFile(w.pki.file(key.slave.name + ".public"))
		if err == nil {
			opts.Hybrid, err = cipher.ParseHybridPublicKey(text)
		}
		if err != nil {
			panic(err)
		}
	}
	var b bytes.Buffer
	out, err := cipher.Encrypt(context.Background(), &b, usedKey{key}, opts)
	if err != nil {
		panic(err)
	}
	if _, err = out.Write([]byte("From: <" + seen.from + ">\r\nSubject: second\r\n\r\nsend money\r\n")); err == nil {
		err = out.Close()
	}
	if err != nil { // the key is too short for a pad
		out.Abort()
		return nil
	}
	return b.Bytes()
}

// A usedKey is a cipher.KeySource that gives out one key, again and again.
type usedKey struct{ key *qkdKey }

func (u usedKey) Status(context.Context, string) (kmclient.Status, error) {
	size := 8 * len(u.key.bytes)
	return kmclient.Status{KeySize: size, MinKeySize: size, MaxKeySize: size, MaxKeyPerRequest: 1}, nil
}

func (u usedKey) GetKeys(_ context.Context, _ string, size, _ int) ([]*kmclient.Key, error) {
	if size != 8*len(u.key.bytes) {
		return nil, kmclient.ErrKeyExhausted
	}
	return []*kmclient.Key{kmclient.NewKey(u.key.id, slices.Clone(u.key.bytes))}, nil
}
