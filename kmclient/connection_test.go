package kmclient

import "testing"

func TestConnection(t *testing.T) {
	const remark = ", which is not post-quantum: recorded today, readable later"
	for _, test := range []struct {
		c    Connection
		want string
		safe bool
	}{
		{Connection{TLS: "TLS 1.3", Group: "X25519MLKEM768"}, "TLS 1.3 with X25519MLKEM768", true},
		{Connection{TLS: "TLS 1.3", Group: "SecP384r1MLKEM1024"}, "TLS 1.3 with SecP384r1MLKEM1024", true},
		{Connection{TLS: "TLS 1.3", Group: "X25519"}, "TLS 1.3 with X25519" + remark, false},
		{Connection{TLS: "TLS 1.2", Group: "CurveP256"}, "TLS 1.2 with CurveP256" + remark, false},
		{Connection{}, "plain HTTP: anyone on the path can read the keys", false},
	} {
		if got := test.c.String(); got != test.want || test.c.PostQuantum() != test.safe {
			t.Errorf("%+v is %q, post-quantum %t, want %q, %t", test.c, got, test.c.PostQuantum(), test.want, test.safe)
		}
	}
}
