package kmclient

import (
	"errors"
	"strings"
	"testing"
)

func TestSaysExhausted(t *testing.T) {
	for message, want := range map[string]bool{
		"Key pool exhausted":                     true,
		"QKD keys exhausted, try later":          true,
		"insufficient keys available":            true,
		"Insufficient key material":              true,
		"not enough keys":                        true,
		"No keys available":                      true,
		"no more keys":                           true,
		"no key":                                 true,
		"No key.":                                true,
		"out of keys":                            true,
		"no key_size given":                      false,
		"no key size given":                      false,
		"no key ID":                              false,
		"database connection pool exhausted":     false,
		"insufficient memory":                    false,
		"key_size is not enough: at least 64":    false,
		"no such thing":                          false,
		"":                                       false,
		"size shall be a multiple of 8":          false,
		"maximum number of keys exceeded":        false,
		"no monkeys available":                   false,
		"the API key of the caller is not known": false,
	} {
		if got := saysExhausted(message); got != want {
			t.Errorf("%q: taken as exhausted: %t, want %t", message, got, want)
		}
	}
}

func TestKMMessage(t *testing.T) {
	long := strings.Repeat("é", 300)
	for body, want := range map[string]string{
		`{"message":"a","error":"b"}`:           "a",
		`{"message":"","error":"b"}`:            "b",
		`{"message":1,"error":{},"detail":"c"}`: "c",
		`{"detail":[{"msg":"x"}]}`:              "",
		`<html>`:                                "",
		`"text"`:                                "",
		``:                                      "",
		`{"message":"a\r\nb\u001b[31m \u202e c"}`:  "a b[31m c",
		`{"error":"` + long + `"}`:                 long[:2*(maxMessage-1)] + "…",
		"{\"message\":\"\xff\xfe bad \xc3\x28\"} ": "bad (",
	} {
		if got := kmMessage([]byte(body)); got != want {
			t.Errorf("%.60s: got %q, want %q", body, got, want)
		}
	}
}

// FuzzRESTAnswer gives any octets as an answer: nothing may panic, and keys
// come out as asked or not at all.
func FuzzRESTAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		if keys, err := decodeKeys(body, 128, 2); err == nil {
			if len(keys) != 2 || len(keys[0].Reveal()) != 16 || len(keys[1].Reveal()) != 16 {
				t.Errorf("asked for 2 keys of 16 octets, got %v", keys)
			}
		} else if keys != nil || !errors.Is(err, ErrBadAnswer) && !errors.Is(err, ErrBadKey) {
			t.Errorf("got %d keys and %v", len(keys), err)
		}
		if k, err := decodeKey(body, "key-1"); err == nil {
			if k.ID() != "key-1" || k.Size() != len(k.Reveal())*8 {
				t.Errorf("asked for key-1, got %v", k)
			}
		} else if k != nil {
			t.Error("an error and a key")
		}
		if len([]rune(kmMessage(body))) > maxMessage {
			t.Error("a message longer than allowed")
		}
	})
}
