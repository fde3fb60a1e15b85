package kmclient

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// where tells what a key manager is a client of.
func where(t *testing.T, km KeyManager) string {
	t.Helper()
	switch km := km.(type) {
	case *Mock:
		return "mock " + km.store.path
	case *REST:
		return km.caller.base
	case nil:
		return ""
	}
	t.Fatalf("a %T", km)
	return ""
}

func TestOpen(t *testing.T) {
	byDefault, err := filepath.Abs(DefaultMockPath)
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{ // empty: ErrConfig
		"mock:":                  "mock " + byDefault,
		"mock:/a/keys.json":      "mock /a/keys.json",
		"mock:/a/b:c.json":       "mock /a/b:c.json",
		"http://km:8080":         "http://km:8080",
		"http://km:8080/":        "http://km:8080",
		"https://km.example:1/p": "https://km.example:1/p",
		"http://[::1]:8080":      "http://[::1]:8080",
		"":                       "", "mock": "", "Mock:": "", "km:8080": "", "ftp://km": "", "http:": "", "https://": "",
		"http://u:s3cret@km": "", "u:s3cret@km": "",
	} {
		km, err := Open(spec, Options{})
		if got := where(t, km); got != want {
			t.Errorf("Open(%q) is %q, want %q", spec, got, want)
		}
		if want == "" && !errors.Is(err, ErrConfig) {
			t.Errorf("Open(%q): %v, want ErrConfig", spec, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Open(%q): the error shows the password", spec)
		}
	}
	if _, err := Open("http://km:1", Options{CAFile: "ca.pem"}); !errors.Is(err, ErrConfig) {
		t.Errorf("a CA file and no TLS: %v, want ErrConfig", err)
	}
	_, err = Open("nonsense", Options{})
	for _, form := range []string{"mock:PATH", "http://HOST:PORT", "https://HOST:PORT"} {
		if err == nil || !strings.Contains(err.Error(), form) {
			t.Errorf("the error %q does not tell of the form %s", err, form)
		}
	}
}

func TestFromEnv(t *testing.T) {
	byDefault, err := filepath.Abs(DefaultMockPath)
	if err != nil {
		t.Fatal(err)
	}
	mock := "mock " + byDefault
	for env, want := range map[string]string{ // empty: ErrConfig
		"":                  mock,
		"QKD_USE_MOCK=True": mock,
		"QKD_USE_MOCK=1 QKD_KM_PORT=x QKD_KM_CA=/none": mock,
		"QKD_USE_MOCK=YES":   mock,
		"QKD_USE_MOCK=maybe": "",
		"QKD_USE_MOCK=2":     "",
		"QKD_USE_MOCK=false": "http://localhost:8080",
		"QKD_USE_MOCK=No QKD_KM_HOST=km QKD_KM_PORT=99":                 "http://km:99",
		"QKD_USE_MOCK=0 QKD_KM_HTTPS=true":                              "https://localhost:8080",
		"QKD_USE_MOCK=0 QKD_KM_HTTPS=FALSE QKD_KM_HOST=127.0.0.1":       "http://127.0.0.1:8080",
		"QKD_USE_MOCK=0 QKD_KM_HOST=::1":                                "http://[::1]:8080",
		"QKD_USE_MOCK=0 QKD_KM_HOST=[2001:db8::1] QKD_KM_PORT=65535":    "http://[2001:db8::1]:65535",
		"QKD_USE_MOCK=0 QKD_KM_HOST=fe80::1%eth0":                       "http://[fe80::1%25eth0]:8080",
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
		if want == "" && !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", env, err)
		}
	}
}
