package mailer

import (
	"testing"

	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

func TestCheckAddress(t *testing.T) {
	for address, want := range map[string]string{
		"":                               "",
		"a@b.example":                    "a@b.example",
		"a..b.@b_c.example.":             `"a..b."@b_c.example.`,
		"postmaster":                     "postmaster",
		"Postmaster":                     "Postmaster",
		"a@[192.0.2.1]":                  "a@[192.0.2.1]",
		"a@[IPv6:2001:db8::1]":           "a@[IPv6:2001:db8::1]",
		"a b@c":                          `"a b"@c`,
		`a"\@c`:                          `"a\"\\"@c`,
		"a@b@c":                          `"a@b"@c`,
		"v@else.example> NOTIFY=NEVER@c": `"v@else.example> NOTIFY=NEVER"@c`,
		"a@b> x":                         "!",
		"a@b\rc":                         "!",
		"a\x00@b":                        "!",
		"a\t@b":                          "!",
		"a@":                             "!",
		"@b":                             "!",
		"a":                              "!",
		"a@b,c":                          "!",
		"a@[x":                           "!",
		"a@b:1":                          "!",
		"ä@b":                            "!",
		"a@ä":                            "!",
	} {
		got := smtpwire.Mailbox(address)
		if checkAddress(address, false) != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", address, got, want)
		}
	}
	if checkAddress("ä@ö", true) != nil {
		t.Error("an SMTPUTF8 address is refused")
	}
}
