package sim

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// second returns another message that a site seals for recipients, under a key of one that
// it has sent. Its relays never do that: whoever has taken over the site may, and so may a
// program that does not remember which keys it has used.
func (w *world) second(from *site, sent *ciphertext, key *qkdKey, rcpts []string) []byte {
	opts := &cipher.EncryptOptions{
		Suite: cipher.Suite(sent.suite).Plain(), SAE: from.sae, Peer: key.slave.sae, Recipients: rcpts, CRLF: true, Time: time.Now(),
	}
	if sent.hybrid() {
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
	if _, err = fmt.Fprintf(out, "From: <alice@%s.example>\r\nSubject: second\r\n\r\nsend money\r\n", from.name); err == nil {
		err = out.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// secondSize is more than a pad for the message of second takes, in bytes.
const secondSize = 200

// usedKeys returns the keys of a message that are long enough for a second one.
func (w *world) usedKeys(sent *ciphertext) (keys []*qkdKey) {
	for _, id := range sent.ids {
		if k := w.keyOf(id); len(k.bytes) >= secondSize || sent.isGCM() {
			keys = append(keys, k)
		}
	}
	return keys
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
