package cipher_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// TestBinding checks that a KeyBinder is called once for each verified frame, with
// the identity of the message, before the frame is released.
func TestBinding(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		plain := bytes.Repeat([]byte("x\n"), 100_000)
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
		b := new(binder)
		if got, err := decrypt(t, km, outer, bindTo(b)); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%s: %v", suite, err)
		}
		var bound []string
		for i, c := range b.calls {
			if c.frame != uint64(i) || c.identity != b.calls[0].identity {
				t.Errorf("%s: call %d: frame %d, identity %x", suite, i, c.frame, c.identity)
			}
			bound = append(bound, c.ids...)
		}
		if !slices.Equal(bound, infoOf(t, outer).KeyIDs) {
			t.Errorf("%s: %d keys were bound, want those of the message", suite, len(bound))
		}
		again := new(binder)
		_, _ = decrypt(t, km, bytes.ReplaceAll(outer, []byte("\n"), []byte("\r\n")), bindTo(again))
		other := new(binder)
		_, _ = decrypt(t, km, encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite}), bindTo(other))
		if again.calls[0].identity != b.calls[0].identity || other.calls[0].identity == b.calls[0].identity {
			t.Errorf("%s: the identity depends on line ends, or two messages have the same", suite)
		}
		refuse := errors.New("bound to another message")
		if got, err := decrypt(t, km, outer, bindTo(&binder{err: refuse})); !errors.Is(err, refuse) || len(got) > 0 {
			t.Errorf("%s: released %d bytes, error %v, want %v", suite, len(got), err, refuse)
		}
		altered := bytes.Clone(outer)
		i := bytes.Index(altered, []byte("base64\n\n")) + 300
		altered[i] ^= 1
		none := new(binder)
		if _, err := decrypt(t, km, altered, bindTo(none)); err == nil || len(none.calls) > 0 {
			t.Errorf("%s: an altered message bound its key %d times, error %v", suite, len(none.calls), err)
		}
	}
}

// TestNoBinder checks that Decrypt refuses options without a Binder, before it
// reads a byte or fetches a key.
func TestNoBinder(t *testing.T) {
	for name, opts := range map[string]*cipher.DecryptOptions{"no options": nil, "no binder": {SAE: "B"}} {
		km := newTestKM()
		src := bytes.NewReader(encrypt(t, km, []byte(shortMessage), nil))
		size := src.Len()
		if _, err := cipher.Decrypt(t.Context(), src, km, opts); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%s: error %v, want %v", name, err, cipher.ErrOptions)
		}
		if src.Len() != size || km.finds != 0 {
			t.Errorf("%s: %d bytes were read and %d keys asked for", name, size-src.Len(), km.finds)
		}
	}
}

// TestIdentityBeforeKeys checks that the identity of a message is known when its first
// key is asked for: the key may be gone, and then the identity tells who has received
// the message.
func TestIdentityBeforeKeys(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		outer := encrypt(t, km, bytes.Repeat([]byte("x\n"), 100_000), &cipher.EncryptOptions{Suite: suite})
		b := new(binder)
		if _, err := decrypt(t, km, outer, bindTo(b)); err != nil {
			t.Fatal(err)
		}
		altered := bytes.Clone(outer)
		at := bytes.Index(altered, []byte("base64\n\n")) + 60 // in the commitment, or the first frame
		altered[at] = map[bool]byte{true: 'B', false: 'A'}[altered[at] == 'A']
		for name, c := range map[string]struct {
			message []byte
			same    bool
		}{"the message": {outer, true}, "an altered one": {altered, false}} {
			asks := &askedKM{err: kmclient.ErrKeyNotFound}
			opts := &cipher.DecryptOptions{Accept: func(i *cipher.Info) error { asks.info = i; return nil }}
			if _, err := decrypt(t, asks, c.message, opts); !errors.Is(err, kmclient.ErrKeyNotFound) {
				t.Fatalf("%s, %s: error %v, want %v", suite, name, err, kmclient.ErrKeyNotFound)
			}
			if len(asks.seen) != 1 || asks.seen[0] == (kmclient.Identity{}) || (asks.seen[0] == b.calls[0].identity) != c.same {
				t.Errorf("%s, %s: identities %x when a key was asked for, %x when it was bound", suite, name, asks.seen, b.calls[0].identity)
			}
		}
	}
}

// askedKM has no key. It records the identity known when it is asked for one.
type askedKM struct {
	err  error
	info *cipher.Info
	seen []kmclient.Identity
}

func (a *askedKM) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	a.seen = append(a.seen, a.info.Identity)
	return nil, a.err
}

// A binder records its calls.
type binder struct {
	err   error
	calls []bindCall
}

// bindTo returns options that accept any message and bind its keys with b.
func bindTo(b *binder) *cipher.DecryptOptions { return &cipher.DecryptOptions{Binder: b} }

type bindCall struct {
	identity kmclient.Identity
	frame    uint64
	ids      []string
}

func (b *binder) BindKeys(_ context.Context, _ string, identity kmclient.Identity, frame uint64, ids ...string) error {
	b.calls = append(b.calls, bindCall{identity, frame, ids})
	return b.err
}
