package open

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
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
		km, err := FromEnv(environment(env), Options{})
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

// TestEnvSpec: if nothing is set, no key manager is named, not even the mock.
func TestEnvSpec(t *testing.T) {
	for env, want := range map[string]string{
		"":                                  "",
		"QKD_KM_HOST=km QKD_KM_PORT=99":     "",
		"QKD_USE_MOCK=true":                 "mock:",
		"QKD_USE_MOCK=true QKD_KM_HOST=km":  "mock:",
		"QKD_USE_MOCK=false QKD_KM_HOST=km": "http://km:8080",
		"QKD_KM=mock:keys.json":             "mock:keys.json",
	} {
		if got, err := EnvSpec(environment(env)); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", env, got, err, want)
		}
	}
}

// environment returns a getenv for variables NAME=VALUE, separated by spaces.
func environment(variables string) func(string) string {
	return func(name string) string {
		for _, v := range strings.Fields(variables) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}
