package sender

import "testing"

func TestVouches(t *testing.T) {
	for _, tt := range []struct {
		header, domain string
		want           bool
	}{
		{"From: a@x.example\r\n", "x.example", true},
		{"From: A <a@X.Example>\r\n", "x.example", true},
		{"From: a@x.example, b@y.example\r\n", "y.example", true},
		{"From: a@mail.x.co.uk\r\n", "bounces.x.co.uk", true},
		{"From: a@b\u00FCcher.example\r\n", "xn--bcher-kva.example", true},
		{"From: a@x.co.uk\r\n", "co.uk", false},
		{"From: a@x.co.uk\r\n", "y.co.uk", false},
		{"From: \"b@y.example\" <a@x.example>\r\n", "y.example", false},
		{"From: a@x.example (b@y.example)\r\n", "y.example", false},
		{"From: a@x.example b@y.example\r\n", "y.example", false},
		{"From: a@x.example\r\n", "", false},
		{"Sender: a@x.example\r\n", "x.example", false},
		{"", "x.example", false},
	} {
		if got := Vouches([]byte(tt.header+"\r\n"), tt.domain); got != tt.want {
			t.Errorf("%q for %q: %v, want %v", tt.header, tt.domain, got, tt.want)
		}
	}
}
