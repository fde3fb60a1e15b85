package kmtest_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/open"
)

// An outcome is the required outcome of a habit.
type outcome struct {
	one error // of one key of 256 bits
	few error // of three of them
	got int   // how many of the three come; 0: all
	pad error // of a message with a one-time pad
}

// Both clients get keys from key managers with each habit, and the other side
// gets the same ones; or they say what is wrong.
func TestHabits(t *testing.T) {
	exhausted := outcome{few: kmclient.ErrKeyExhausted, pad: kmclient.ErrKeyExhausted}
	badKey := outcome{one: kmclient.ErrBadKey, few: kmclient.ErrBadKey, pad: kmclient.ErrBadKey}
	empty := outcome{one: kmclient.ErrKeyExhausted, few: kmclient.ErrKeyExhausted, pad: kmclient.ErrKeyExhausted}
	dry := outcome{pad: kmclient.ErrKeyExhausted}
	down := outcome{one: kmclient.ErrUnavailable, few: kmclient.ErrUnavailable, pad: kmclient.ErrUnavailable}
	tooShort := outcome{one: kmclient.ErrBadRequest, few: kmclient.ErrBadRequest, pad: cipher.ErrPad}
	try := func(h kmtest.Habit, api string, want outcome) {
		t.Run(api+"/"+h.Name, func(t *testing.T) {
			l := h.Start(t, api)
			if limit := h.Options.MaxKeysPerRequest; api == kmtest.QMail && limit > 0 && !h.Options.Quirks.IgnoreLimits {
				want.few = kmclient.ErrLimit // this client does not split a request
			}
			if api == kmtest.ETSI && h.Name == "keys said to be too short" {
				want.few = kmclient.ErrBadRequest // this client asks for the limits before it asks for several keys
			}
			want.try(t, client(t, l.A), client(t, l.B), l.A.SAE, l.B.SAE)
		})
	}
	kmtest.Each(t, map[string]outcome{
		"sizes rounded up to 264":              badKey,
		"size ignored":                         badKey,
		"a stock of two":                       exhausted,
		"a stock of two, worded so":            exhausted,
		"the same with 503":                    exhausted,
		"a code instead of words":              exhausted,
		"a stock of two, key by key":           {got: 1, pad: kmclient.ErrKeyExhausted},
		"a stock of two, 0 in the status":      exhausted,
		"a stock of 15":                        dry,
		"a stock of 20":                        dry,
		"a stock of 15, as it is":              dry,
		"a stock of 15, as it is, of 256 bits": dry,
		"an empty stock":                       empty,
		"an empty stock, said in HTML":         down,
		"out of order, with 503":               down,
		"keys too short":                       tooShort,
		"keys said to be too short":            {pad: cipher.ErrPad},
		"401 in HTML":                          {one: kmclient.ErrRefused, few: kmclient.ErrRefused, pad: kmclient.ErrRefused},
		"a status that fails":                  {pad: kmclient.ErrUnavailable},
		"a status that is refused":             {pad: kmclient.ErrRefused},
	}, try)
	rest := kmtest.Habit{Name: "a stock of two, as it is", Options: kmsim.Options{Capacity: 2, Quirks: kmsim.Quirks{GiveRest: true}}}
	for _, api := range []string{kmtest.ETSI, kmtest.QMail} {
		try(rest, api, outcome{got: 1, pad: kmclient.ErrKeyExhausted})
	}
}

// client returns the client of a side.
func client(t *testing.T, s kmtest.Side) kmclient.KeyManager {
	t.Helper()
	km, err := open.KeyManager(s.KM, open.Options{SAE: s.SAE, CAFile: s.CA, CertFile: s.Cert, KeyFile: s.Key})
	if err != nil {
		t.Fatal(err)
	}
	return km
}

func (h outcome) try(t *testing.T, sender, recipient kmclient.KeyManager, from, to string) {
	t.Helper()
	for _, get := range []struct {
		number int
		want   error
	}{{1, h.one}, {3, h.few}} {
		number, want := get.number, get.want
		keys, err := sender.GetKeys(t.Context(), to, 256, number)
		if number > 1 && h.got > 0 {
			number = h.got
		}
		if !errors.Is(err, want) || (err == nil) != (len(keys) == number) {
			t.Errorf("%d keys: %v, %v, want %v", number, keys, err, want)
			continue
		}
		if err != nil {
			continue
		}
		var ids []string
		for _, k := range keys {
			ids = append(ids, k.ID())
		}
		again, err := recipient.KeysByID(t.Context(), from, ids...)
		if err != nil {
			t.Errorf("%d keys by their IDs: %v", number, err)
			continue
		}
		for i, k := range again {
			if !bytes.Equal(k.Reveal(), keys[i].Reveal()) {
				t.Errorf("key %d of %d is different at the other side", i, number)
			}
		}
	}
	h.tryPad(t, sender, recipient, from, to)
}

func (h outcome) tryPad(t *testing.T, sender, recipient kmclient.KeyManager, from, to string) {
	t.Helper()
	plain := []byte("From: a@example.org\r\n\r\n" + strings.Repeat("it is on\r\n", 60))
	var wire bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &wire, sender, &cipher.EncryptOptions{Suite: cipher.SuiteOTP, SAE: from, Peer: to})
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if !errors.Is(err, h.pad) {
		t.Errorf("a pad: %v, want %v", err, h.pad)
	}
	if err != nil {
		return
	}
	r, err := cipher.Decrypt(t.Context(), &wire, recipient, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: to, Peers: []string{from}})
	var got bytes.Buffer
	if err == nil {
		_, err = got.ReadFrom(r)
	}
	if err != nil || !bytes.Equal(got.Bytes(), plain) {
		t.Errorf("a pad comes back as %d bytes, %v", got.Len(), err)
	}
}

// The message of a 401 for a key that the KME does not have does not mislead,
// and the error is one that makes a relay wait.
func TestHabitUnknownKeyRefused(t *testing.T) {
	l := kmtest.Named("401 for a key that is not here").Start(t, kmtest.ETSI)
	_, err := client(t, l.B).KeysByID(t.Context(), "SAE_A", "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c")
	if !errors.Is(err, kmclient.ErrRefused) || !strings.Contains(err.Error(), "a key that is unknown") {
		t.Errorf("%v, want ErrRefused that speaks of the key", err)
	}
}
