package open

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

func TestFromEnv(t *testing.T) {
	byDefault, err := filepath.Abs(mock.DefaultPath)
	if err != nil {
		t.Fatal(err)
	}
	byDefault = "mock " + byDefault
	for env, want := range map[string]string{ // empty: ErrConfig
		"":                  byDefault,
		"QKD_USE_MOCK=True": byDefault,
		"QKD_USE_MOCK=1 QKD_KM_PORT=x QKD_KM_CA=/none": byDefault,
		"QKD_USE_MOCK=YES":   byDefault,
		"QKD_USE_MOCK=maybe": "",
		"QKD_USE_MOCK=2":     "",
		"QKD_USE_MOCK=false": "http://localhost:8080",
		"QKD_USE_MOCK=No QKD_KM_HOST=km QKD_KM_PORT=99":                 "http://km:99",
		"QKD_USE_MOCK=0 QKD_KM_HTTPS=true":                              "https://localhost:8080",
		"QKD_USE_MOCK=0 QKD_KM_HTTPS=FALSE QKD_KM_HOST=127.0.0.1":       "http://127.0.0.1:8080",
		"QKD_USE_MOCK=0 QKD_KM_HOST=::1":                                "http://[::1]:8080",
		"QKD_USE_MOCK=0 QKD_KM_HOST=[2001:db8::1] QKD_KM_PORT=65535":    "http://[2001:db8::1]:65535",
		"QKD_USE_MOCK=0 QKD_KM_HOST=fe80::1%eth0":                       "http://[fe80::1%25eth0]:8080",
		"QKD_USE_MOCK=0 QKD_KM_USE_HTTPS=true":                          "https://localhost:8080",
		"QKD_USE_MOCK=0 QKD_KM_USE_HTTPS=no":                            "http://localhost:8080",
		"QKD_USE_MOCK=0 QKD_KM_USE_HTTPS=yes QKD_KM_HTTPS=1":            "https://localhost:8080",
		"QKD_USE_MOCK=0 QKD_KM_USE_HTTPS=yes QKD_KM_HTTPS=0":            "",
		"QKD_USE_MOCK=0 QKD_KM_USE_HTTPS=0 QKD_KM_HTTPS=true":           "",
		"QKD_USE_MOCK=0 QKD_KM_USE_HTTPS=maybe":                         "",
		"QKD_USE_MOCK=on":                                               "",
		"QKD_USE_MOCK=none":                                             "",
		"QKD_KM=ftp://km":                                               "",
		"QKD_KM=etsi014:http://km":                                      "",
		"QKD_KM=http://km QKD_USE_MOCK=true":                            "http://km",
		"QKD_USE_MOCK=0 QKD_KM_HTTPS=maybe":                             "",
		"QKD_USE_MOCK=0 QKD_KM_PORT=0":                                  "",
		"QKD_USE_MOCK=0 QKD_KM_PORT=65536":                              "",
		"QKD_USE_MOCK=0 QKD_KM_PORT=http":                               "",
		"QKD_USE_MOCK=0 QKD_KM_PORT=-1":                                 "",
		"QKD_USE_MOCK=0 QKD_KM_HOST=km:8080":                            "",
		"QKD_USE_MOCK=0 QKD_KM_HOST=http://km":                          "",
		"QKD_USE_MOCK=0 QKD_KM_HOST=u@km":                               "",
		"QKD_USE_MOCK=0 QKD_KM_HOST=km/x":                               "",
		"QKD_USE_MOCK=0 QKD_KM_CA=/none":                                "",
		"QKD_USE_MOCK=0 QKD_KM_HTTPS=yes QKD_KM_CA=/none/such/file.pem": "",
	} {
		vars := map[string]string{}
		for _, v := range strings.Fields(env) {
			name, value, _ := strings.Cut(v, "=")
			vars[name] = value
		}
		km, err := FromEnv(func(name string) string { return vars[name] }, Options{})
		if got := where(t, km); got != want {
			t.Errorf("%s: is %q (%v), want %q", env, got, err, want)
		}
		if want == "" && !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", env, err)
		}
		if want == "" && !strings.Contains(err.Error(), "QKD_") {
			t.Errorf("%s: the error names no variable: %v", env, err)
		}
	}
}

// TestEnvSpec: nothing that is set names no key manager, and is not the mock.
func TestEnvSpec(t *testing.T) {
	for env, want := range map[string]string{
		"":                                  "",
		"QKD_KM_HOST=km QKD_KM_PORT=99":     "",
		"QKD_USE_MOCK=true":                 "mock:",
		"QKD_USE_MOCK=true QKD_KM_HOST=km":  "mock:",
		"QKD_USE_MOCK=false QKD_KM_HOST=km": "http://km:8080",
		"QKD_KM=mock:keys.json":             "mock:keys.json",
	} {
		vars := map[string]string{}
		for _, v := range strings.Fields(env) {
			name, value, _ := strings.Cut(v, "=")
			vars[name] = value
		}
		if got, err := EnvSpec(func(name string) string { return vars[name] }); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", env, got, err, want)
		}
	}
}

// TestVariablesAreNamed: an error about a value that comes from the environment
// says from which variable, and no other.
func TestVariablesAreNamed(t *testing.T) {
	dir := t.TempDir()
	ca := fakekm.NewCA(t)
	cert, key := ca.Issue(t, "sae", fakekm.Loopback("SAE"))
	none := filepath.Join(dir, "none.pem")
	etsi := map[string]string{"QKD_KM": "etsi014:https://km:1", "QKD_KM_CERT": cert, "QKD_KM_KEY": key, "QKD_KM_CA": ca.File, "QKD_KME_ID": "KME_A", "QKD_SAE": "SAE_A"}
	for _, tt := range []struct {
		name, value string // what is wrong
		also        map[string]string
	}{
		{"QKD_KM", "nonsense", nil},
		{"QKD_KM", "http://user:s3cret@km", nil},
		{"QKD_KM", "etsi014:http://km", nil},
		{"QKD_KM_CA", none, map[string]string{"QKD_USE_MOCK": "0", "QKD_KM_HTTPS": "1"}},
		{"QKD_KM_CA", ca.File, map[string]string{"QKD_USE_MOCK": "0"}},
		{"QKD_KM_CA", none, etsi},
		{"QKD_KM_CA", dir, etsi},
		{"QKD_KM_CERT", none, etsi},
		{"QKD_KM_CERT", key, etsi},
		{"QKD_KM_KEY", none, etsi},
		{"QKD_KM_KEY", cert, etsi},
		{"QKD_KME_ID", "A,B,C", etsi},
		{"QKD_KM_HOST", "http://km", map[string]string{"QKD_USE_MOCK": "0"}},
		{"QKD_KM_PORT", "http", map[string]string{"QKD_USE_MOCK": "0"}},
		{"QKD_KM_HTTPS", "perhaps", map[string]string{"QKD_USE_MOCK": "0"}},
		{"QKD_USE_MOCK", "perhaps", nil},
	} {
		getenv := func(name string) string {
			if name == tt.name {
				return tt.value
			}
			return tt.also[name]
		}
		_, err := FromEnv(getenv, Options{})
		if !errors.Is(err, kmclient.ErrConfig) || !strings.Contains(err.Error(), tt.name) {
			t.Errorf("%s=%s: %v, want an ErrConfig that names the variable", tt.name, tt.value, err)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password", tt.name)
		}
		for _, name := range regexp.MustCompile(`QKD_\w+`).FindAllString(err.Error(), -1) {
			value, set := tt.also[name]
			if name != tt.name && set && value != cert && value != key { // a certificate and its key go together
				t.Errorf("%s=%s: the error names %s as well: %v", tt.name, tt.value, name, err)
			}
		}
	}
	if err := NameVariables(errors.New(`addressed to "B", this is "SAE_A"`), func(name string) string {
		return map[string]string{"QKD_SAE": "SAE_A", "QKD_PEER": "SAE"}[name]
	}); !strings.Contains(err.Error(), "(from QKD_SAE in the environment)") {
		t.Errorf("%v, want it to name QKD_SAE, and not QKD_PEER, which is only a part of a word", err)
	}
	if err := NameVariables(nil, func(string) string { return "x" }); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}
