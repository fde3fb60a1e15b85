package config

import "testing"

// Which texts are paths, and therefore relative to the folder of the file.
func TestConfigStorePaths(t *testing.T) {
	d := decoder{folder: "/etc/qkdmail"}
	for _, tt := range []struct{ unit, text, want string }{
		{"store", "keys.db", "/etc/qkdmail/keys.db"},
		{"store", "/var/lib/qkdmail/keys.db", "/var/lib/qkdmail/keys.db"},
		{"store", "none", "none"},
		{"store", "./none", "/etc/qkdmail/none"},
		{"store", "", ""},
		{"store", "postgres://relay@127.0.0.1/mail", "postgres://relay@127.0.0.1/mail"},
		{"secret", "file:store.key", "file:/etc/qkdmail/store.key"},
		{"secret", "file:/run/store.key", "file:/run/store.key"},
		{"secret", "file:", "file:"},
		{"secret", "credential:store.key", "credential:store.key"},
		{"secret", "env:STORE_KEY", "env:STORE_KEY"},
		{"secret", "", ""},
		{"file", "ca.crt", "/etc/qkdmail/ca.crt"},
		{"", "ca.crt", "ca.crt"},
	} {
		if got := d.inFolder(tt.text, tt.unit); got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.unit, tt.text, got, tt.want)
		}
	}
}
