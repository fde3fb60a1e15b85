package redact

import (
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
