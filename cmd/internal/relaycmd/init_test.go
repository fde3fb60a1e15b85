package relaycmd

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/site"
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
