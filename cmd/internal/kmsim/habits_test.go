package kmsim

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/rest"
)

// A habit is what key managers in the field do, and what must come of it.
type habit struct {
	o   Options
	one error // of one key of 256 bits
	few error // of three of them
	got int   // of which so many come; 0: all
	pad error // of a message with a one-time pad
}

func habits() map[string]habit {
	const words = "The requested key amount exceeds the generated key count. Try again later."
	return map[string]habit{
		"none":                           {},
		"one key a request":              {o: Options{MaxKeysPerRequest: 1}},
		"keys of 256 bits only":          {o: Options{MinKeySize: 256, MaxKeySize: 256}},
		"one key of 256 bits a request":  {o: Options{MinKeySize: 256, MaxKeySize: 256, MaxKeysPerRequest: 1}},
		"limits that are not told":       {o: Options{Quirks: Quirks{HideLimits: true}}},
		"stored_key_count 0, on demand":  {o: Options{Quirks: Quirks{ZeroStock: true}}},
		"fewer keys than asked for":      {o: Options{Quirks: Quirks{MostKeys: 1}}},
		"fewer keys, of 256 bits":        {o: Options{MinKeySize: 256, MaxKeySize: 256, Quirks: Quirks{MostKeys: 2}}},
		"sizes rounded up to 8 bits":     {o: Options{Quirks: Quirks{RoundSize: 8}}},
		"sizes rounded up to 264":        {o: Options{Quirks: Quirks{RoundSize: 264}}, one: kmclient.ErrBadKey, few: kmclient.ErrBadKey, pad: kmclient.ErrBadKey},
		"size ignored":                   {o: Options{KeySize: 512, Quirks: Quirks{IgnoreSize: true}}, one: kmclient.ErrBadKey, few: kmclient.ErrBadKey, pad: kmclient.ErrBadKey},
		"a stock of two, worded so":      {o: Options{Capacity: 2, ExhaustedStatus: 400, Quirks: Quirks{ExhaustedMessage: words}}, few: kmclient.ErrKeyExhausted, pad: kmclient.ErrKeyExhausted},
		"the same with 503":              {o: Options{Capacity: 2, Quirks: Quirks{ExhaustedMessage: words}}, few: kmclient.ErrKeyExhausted, pad: kmclient.ErrKeyExhausted},
		"a code instead of words":        {o: Options{Capacity: 2, ExhaustedStatus: 400, Quirks: Quirks{ExhaustedMessage: "INSUFFICIENT_KEYS"}}, few: kmclient.ErrKeyExhausted, pad: kmclient.ErrKeyExhausted},
		"a stock of two, key by key":     {o: Options{Capacity: 2, MaxKeysPerRequest: 1}, got: 1, pad: kmclient.ErrKeyExhausted},
		"a stock of two, as it is":       {o: Options{Capacity: 2, Quirks: Quirks{GiveRest: true}}, got: 1, pad: kmclient.ErrKeyExhausted},
		"out of order, with 503":         {o: Options{Capacity: 2, Quirks: Quirks{ExhaustedMessage: "database connection pool exhausted"}}, few: kmclient.ErrUnavailable, pad: kmclient.ErrUnavailable},
		"keys too short":                 {o: Options{KeySize: 128, MaxKeySize: 128}, one: kmclient.ErrBadRequest, few: kmclient.ErrBadRequest, pad: cipher.ErrPad},
		"a status that fails":            {o: Options{Quirks: Quirks{StatusStatus: http.StatusInternalServerError}}, pad: kmclient.ErrUnavailable},
		"a status that is refused":       {o: Options{Quirks: Quirks{StatusStatus: http.StatusForbidden}}, pad: kmclient.ErrRefused},
		"limits that are not kept":       {o: Options{MaxKeysPerRequest: 2, Quirks: Quirks{IgnoreLimits: true}}},
		"401 for a key that is not here": {o: Options{Quirks: Quirks{UnknownKeyStatus: 401}}},
	}
}

// Both clients get keys from key managers with each habit, and give them back at
// the other side, or say what is wrong.
func TestHabits(t *testing.T) {
	for name, h := range habits() {
		t.Run("ETSI/"+name, func(t *testing.T) {
			s := start(t, h.o)
			h.try(t, s.etsiClient(a, atA), s.etsiClient(b, atB), a, b)
		})
		t.Run("QMail/"+name, func(t *testing.T) {
			km, err := rest.New(rest.Options{URL: qmail(t, h.o)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(km.CloseIdle)
			if h.o.MaxKeysPerRequest > 0 && !h.o.Quirks.IgnoreLimits && h.few == nil {
				h.few = kmclient.ErrLimit // this client asks for the number that it is told to
			}
			if name == "a stock of two, key by key" {
				h.few = kmclient.ErrLimit
			}
			h.try(t, km, km, "", "")
		})
	}
}

func (h habit) try(t *testing.T, sender, recipient kmclient.KeyManager, from, to string) {
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
				t.Errorf("key %d of %d is another one at the other side", i, number)
			}
		}
	}
	h.tryPad(t, sender, recipient, from, to)
}

func (h habit) tryPad(t *testing.T, sender, recipient kmclient.KeyManager, from, to string) {
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

// The words of a 401 for a key that the KME does not have do not mislead, and
// the class is one with which a relay waits.
func TestHabitUnknownKeyRefused(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{UnknownKeyStatus: 401}})
	_, err := s.etsiClient(b, atB).KeysByID(t.Context(), a, "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c")
	if !errors.Is(err, kmclient.ErrRefused) || !strings.Contains(err.Error(), "a key that it does not hold") {
		t.Errorf("%v, want ErrRefused that speaks of the key", err)
	}
}
