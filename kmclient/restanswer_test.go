package kmclient

import (
	"errors"
	"strings"
	"testing"
)

func TestDecodeStatus(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want Status
		good bool
	}{
		"ETSI": {`{"source_KME_ID":"A","target_KME_ID":"B","master_SAE_ID":"a","slave_SAE_ID":"b","key_size":352,
			"stored_key_count":25000,"max_key_count":100000,"max_key_per_request":128,"max_key_size":1024,
			"min_key_size":64,"max_SAE_ID_count":0}`, Status{SourceKME: "A", TargetKME: "B", MasterSAE: "a", SlaveSAE: "b",
			KeySize: 352, StoredKeys: 25000, MaxKeys: 100000, MaxKeyPerRequest: 128, MaxKeySize: 1024, MinKeySize: 64}, true},
		"reference":             {`{"status":"ok","keys_stored":12}`, Status{StoredKeys: 12}, true},
		"both counts":           {`{"stored_key_count":0,"keys_stored":12}`, Status{}, true},
		"numbers and text":      {`{"target_KME_ID":7,"key_size":"256"}`, Status{TargetKME: "7", KeySize: 256}, true},
		"senseless":             {`{"key_size":-1,"max_key_size":1e99,"stored_key_count":[],"source_KME_ID":{}}`, Status{}, true},
		"null values":           {`{"key_size":null,"source_KME_ID":null}`, Status{}, true},
		"empty":                 {`{}`, Status{}, true},
		"control characters":    {`{"source_KME_ID":"a\u001b[31m\nb"}`, Status{SourceKME: "a[31m b"}, true},
		"null":                  {`null`, Status{}, false},
		"list":                  {`[1]`, Status{}, false},
		"HTML":                  {`<html>`, Status{}, false},
		"trailing":              {`{} {}`, Status{}, false},
		"nothing":               {``, Status{}, false},
		"number":                {`1`, Status{}, false},
		"cut short":             {`{"key_size":25`, Status{}, false},
		"not a number in a row": {`{"key_size":NaN}`, Status{}, false},
	} {
		got, err := decodeStatus([]byte(test.body))
		if test.good && (err != nil || got != test.want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, test.want)
		}
		if !test.good && !errors.Is(err, ErrBadAnswer) {
			t.Errorf("%s: got %v, want ErrBadAnswer", name, err)
		}
	}
}

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
		if s, err := decodeStatus(body); err == nil && (s.KeySize < 0 || s.StoredKeys < 0 || s.MaxKeySize < 0) {
			t.Errorf("a negative count: %+v", s)
		}
		if len([]rune(kmMessage(body))) > maxMessage {
			t.Error("a message longer than allowed")
		}
	})
}
