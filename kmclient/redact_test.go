package kmclient

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	const b64 = "q83vEjRWeJCrze8SNFZ4kA"
	asked := []string{"3f2a91c07bd84e6fa1b2c3d4e5f60718", b64 + "X"}
	for text, want := range map[string]string{
		"one or more keys specified are not found on KME":  "",
		"not all extension_mandatory request options":      "",
		"additional_slave_SAE_IDs":                         "",
		"max_key_per_request exceeded":                     "",
		"INSUFFICIENT_KEYS_AVAILABLE":                      "",
		"KeyPoolExhaustedException":                        "",
		"misconfiguration of /api/v1/keys/enc_keys":        "",
		"9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c not found":   "",
		"9B42E9E2-38CC-4D7F-BA7E-94E0ED1A8A1C":             "",
		"MOCK-KEY-00000001-20251012195640 is unknown":      "",
		"at 2025-10-12 19:56:42.123456 by 10.0.0.1:8443":   "",
		"mac 00:11:22:33:44:55":                            "",
		"key 3f2a91c07bd84e6fa1b2c3d4e5f60718 not found":   "", // asked for
		"key " + b64 + " is bad":                           "key [removed] is bad",
		"key " + b64 + "== is bad":                         "key [removed] is bad",
		"key " + b64 + "X is unknown":                      "", // asked for
		"key=" + b64:                                       "[removed]",
		"'" + b64 + "'":                                    "'[removed]'",
		"q83vEjRWeJCrze8S":                                 "[removed]",
		"-_3vEjRWeJ-rze8SNFZ4kA":                           "[removed]",
		"q83v%2BjRWeJCrze8S%3D":                            "[removed]",
		"abcdef0123456789abcdef0123456789":                 "[removed]",
		"ABCDEF0123456789":                                 "[removed]",
		"ab:cd:ef:01:23:45:67:89 then":                     "[removed] then",
		"ab cd ef 01 23 45 67 89":                          "[removed]",
		"0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89":   "[removed]",
		`\xab\xcd\xef\x01\x23\x45\x67\x89`:                 "[removed]",
		`bad: b'\x86\x0f!\xad\x89\x1fS\x99 \xd2Hf o' (32)`: "bad: [removed]",
		`not \x41 nor \x42, \x43`:                          "",
		"key bytes [143, 213, 252, 22, 0, 1, 2, 3]":        "key bytes [[removed]]",
		`["86","0f","21","ad","89","1f","53","99"]`:        `["[removed]"]`,
		"8fd5fc16 f99c6f84 0011223a 44556677 then":         "[removed] 44556677 then",
		"8fd5fc16 99996784 0011223a 4455667b":              "[removed]",
		"q83vEjRWeJ Crze8SNF Z4kA then":                    "[removed] then",
		"'q83vEjRWeJ', 'Crze8SNFZ4', 'kA=='":               "'[removed]'",
		"requested amount exceeds available amount":        "",
		"key_size 128, max_key_size 1024, min_key_size 64": "",
		"SAE_ALICE_1 SAE_BOB_22 KME_SOUTH_3 not linked":    "",
		"9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c" + b64:       "[removed]",
	} {
		if want == "" {
			want = text
		}
		if got := redact(text, asked); got != want {
			t.Errorf("%q\nbecomes %q\nwant    %q", text, got, want)
		}
	}
}

// What is a key by its name goes, whatever it looks like, and what is cut off
// at the end shows no beginning of one.
func TestWordsWithoutKeys(t *testing.T) {
	const short = "c2hvcnQ=" // too short to be noticed
	for name, body := range map[string]string{
		"member":          `{"message":"bad","details":[{"key":"` + short + `","n":1}]}`,
		"in any case":     `{"message":"bad","details":[{"KEY":"` + short + `","n":1}]}`,
		"keys":            `{"message":"bad","details":[{"n":1,"Keys":[{"x":"` + short + `"}]}]}`,
		"deep":            `{"message":"bad","details":[{"n":1,"a":[[{"b":{"key":["` + short + `"]}}]]}]}`,
		"message is one":  `{"message":{"key":"` + short + `"},"error":"bad","details":[{"n":1}]}`,
		"bytes":           `{"message":"bad","details":[{"n":1,"a":[17,34,51,68,85,102,119,136]}]}`,
		"name twice":      `{"message":"bad","details":[{"n":1,"key":"` + short + `","key":"` + short + `"}]}`,
		"escaped name":    `{"message":"bad","details":[{"n":1,"k\u0065y":"` + short + `"}]}`,
		"cut off":         `{"message":"bad ` + strings.Repeat("word ", 38) + `q83vEjRWeJCrze8SNFZ4kA","details":[{"n":1}]}`,
		"control between": `{"message":"bad q83vEjRW\u0000eJCrze8S\u200bNFZ4kA","details":[{"n":1}]}`,
	} {
		e := refusedGet(400, nil, body)
		if text := e.Error(); !strings.Contains(text, "bad") || strings.Contains(text, "short") || strings.Contains(text, short) ||
			strings.Contains(text, "q83v") || strings.Contains(text, "119") {
			t.Errorf("%s: %s", name, text)
		}
		if len(e.Details) != 1 || !strings.Contains(e.Details[0], `"n":1`) {
			t.Errorf("%s: details are %q, want what is no key of them", name, e.Details)
		}
	}
}

// No key of 16 bytes that is put into any answer, in whatever encoding and
// place, appears in an error.
func FuzzNoKeyInErrors(f *testing.F) {
	f.Add([]byte("seed"), 400, "the key ", " is bad", uint8(0))
	f.Add([]byte("seed"), 500, `{"a":"`, `"}`, uint8(1))
	f.Add([]byte("seed"), 200, "KeyPool", "_exhausted", uint8(2))
	f.Add([]byte("seed"), 503, "ab:cd:ef:01:23:45:67:", ":89", uint8(4))
	f.Add([]byte("seed"), 401, "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c", "/asked-for-1", uint8(3))
	f.Fuzz(func(t *testing.T, seed []byte, status int, before, after string, form uint8) {
		sum := sha256.Sum256(seed) // a key is random
		key := sum[:16]
		encoded := []string{
			base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
			base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
			hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)),
		}[int(form)%6]
		core := strings.TrimRight(encoded, "=")
		text := before + encoded + after
		quoted := strconv.Quote(text)
		other := base64.StdEncoding.EncodeToString(sum[16:])
		for _, body := range []string{
			text,
			quoted,
			`{"message":` + quoted + `}`,
			`{"error":{"message":` + quoted + `,"key":` + quoted + `}}`,
			`{"message":"x","details":[{"reason":` + quoted + `},` + quoted + `,{` + quoted + `:1}]}`,
			`{"message":"x","details":[{"Key":` + quoted + `,"a":[{"keys":[` + quoted + `]}]}]}`,
			`{"keys":[{"key_ID":"x","key":` + quoted + `}],"message":` + quoted + `}`,
			`{"keys":[{"key_ID":"` + encoded + `","key":"` + other + `"}]}`,
			`{"keys":[{"key_ID":` + quoted + `,"key":"` + other + `"}]}`,
		} {
			var errs []error
			for _, op := range []string{operationStatus, operationGetKeys, operationKeysByID, operationCloseKey} {
				q := call{op: op, ids: []string{"asked-for-1"}}
				errs = append(errs, refusal(q, status, nil, []byte(body)), badAnswer(q, 200, []byte(body), ErrBadAnswer))
			}
			if _, err := decodeKeys([]byte(body), 256, 1); err != nil {
				errs = append(errs, err)
			}
			if _, err := decodeKey([]byte(body), "asked-for-1"); err != nil {
				errs = append(errs, err)
			}
			if _, err := decodeStatus([]byte(body)); err != nil {
				errs = append(errs, err)
			}
			if keys, err := decodeKeyList([]byte(body)); err == nil {
				_, err := match(keys, []string{"asked-for-1"})
				errs = append(errs, err, CheckKeys(keys, 256, 2))
			}
			for _, err := range errs {
				if err != nil && strings.Contains(fmt.Sprint(err), core) {
					t.Fatalf("HTTP %d with %q: the error shows the key: %v", status, body, err)
				}
			}
		}
	})
}
