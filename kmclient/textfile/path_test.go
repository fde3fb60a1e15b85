package textfile

import (
	"errors"
	"io/fs"
	"testing"
)

// TestPath: a credential is a file in systemd's folder, and no name leads out of that
// folder.
func TestPath(t *testing.T) {
	for _, tt := range []struct {
		dir, setting, want string
		err                error
	}{
		{"/run/credentials/u", "site.key", "site.key", nil},
		{"/run/credentials/u", "/etc/qkdmail/site.key", "/etc/qkdmail/site.key", nil},
		{"/run/credentials/u", "credential:site", "/run/credentials/u/site", nil},
		{"/run/credentials/u", "credential:", "", fs.ErrNotExist},
		{"/run/credentials/u", "credential:.", "", fs.ErrNotExist},
		{"/run/credentials/u", "credential:..", "", fs.ErrNotExist},
		{"/run/credentials/u", "credential:../site", "", fs.ErrNotExist},
		{"/run/credentials/u", "credential:/etc/shadow", "", fs.ErrNotExist},
		{"", "credential:site", "", fs.ErrNotExist},
		{"", "site.key", "site.key", nil},
	} {
		t.Setenv("CREDENTIALS_DIRECTORY", tt.dir)
		if got, err := Path(tt.setting); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q in %q: %q, %v; want %q, %v", tt.setting, tt.dir, got, err, tt.want, tt.err)
		}
	}
}
