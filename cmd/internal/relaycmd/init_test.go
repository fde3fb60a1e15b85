package relaycmd

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/site"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestStartStep: what already exists is not made again.
func TestStartStep(t *testing.T) {
	for name, tt := range map[string]struct {
		unit       bool
		there      system
		want, lack []string
	}{
		"nothing is there":          {true, system{}, []string{"useradd", "install -m", "chgrp", "cp "}, nil},
		"the package is there":      {false, system{true, true, true}, nil, []string{"useradd", "install -m", "chgrp", "cp "}},
		"the package, another site": {true, system{true, true, true}, []string{"chgrp", "cp "}, []string{"useradd", "install -m"}},
		"only the program is there": {true, system{program: true}, []string{"useradd", "cp "}, []string{"install -m"}},
	} {
		step := startStep(&site.Site{Dir: "/etc/qkdmail", Unit: tt.unit}, tt.there)
		for _, part := range append(tt.want, "systemctl enable --now qkdmail-relay") {
			if !strings.Contains(step, part) {
				t.Errorf("%s: lacks %q:\n%s", name, part, step)
			}
		}
		for _, part := range tt.lack {
			if strings.Contains(step, part) {
				t.Errorf("%s: has %q:\n%s", name, part, step)
			}
		}
	}
}

// TestCheckAsRelay: where the package has made the account, the key is given to it, and
// the check runs as the relay does.
func TestCheckAsRelay(t *testing.T) {
	km := config.KM{URL: "etsi014:https://kme:8443", Key: "a.key"}
	for name, tt := range map[string]struct {
		unit      bool
		there     system
		key, asIt string
	}{
		"the package is there":      {false, system{true, true, true}, "  chgrp qkdmail /etc/qkdmail/a.key && chmod 0640 /etc/qkdmail/a.key", "runuser -u qkdmail -- "},
		"the package, another site": {true, system{true, true, true}, "  chgrp qkdmail /etc/qkdmail/a.key && chmod 0640 /etc/qkdmail/a.key", ""},
		"nothing is there":          {true, system{}, "  chmod 0640 /etc/qkdmail/a.key", ""},
	} {
		s := &site.Site{Dir: "/etc/qkdmail", Unit: tt.unit, KM: km}
		if step := readStep(s, tt.there); !strings.HasSuffix(step, "\n"+tt.key) {
			t.Errorf("%s: does not end with %q:\n%s", name, tt.key, step)
		}
		if got := asRelay(s, tt.there); got != tt.asIt {
			t.Errorf("%s: the check runs with %q, want %q", name, got, tt.asIt)
		}
	}
}

// TestQuoted: a shell reads a quoted word unchanged.
func TestQuoted(t *testing.T) {
	for word, want := range map[string]string{
		"b.example": "b.example", "etsi014:https://[::1]:8443": "'etsi014:https://[::1]:8443'", "*.b.example": "'*.b.example'",
		"": "''", "it's": `'it'\''s'`, "$(id)": "'$(id)'", "/a b": "'/a b'", "~x": "'~x'",
	} {
		if got := quoted(word); got != want {
			t.Errorf("quoted(%q) = %s, want %s", word, got, want)
		}
	}
}
