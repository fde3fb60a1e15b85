package open

import (
	"reflect"

	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"

	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/mock"
	"github.com/qkdmail/qkdmail/kmclient/rest"
)

// where returns what a key manager is a client of.
func where(t *testing.T, km kmclient.KeyManager) string {
	t.Helper()
	inside := reflect.ValueOf(km)
	switch km.(type) {
	case *mock.KeyManager:
		return "mock " + inside.Elem().FieldByName("store").Elem().FieldByName("path").String()
	case *rest.Client:
		return inside.Elem().FieldByName("caller").Elem().FieldByName("base").String()
	case *etsi014.Client:
		where := inside.Elem().FieldByName("sae").String() + " at"
		for _, kme := range inside.Elem().FieldByName("kmes").Seq2() {
			where += " " + kme.Elem().FieldByName("name").String()
		}
		return where
	case nil:
		return ""
	}
	t.Fatalf("a %T", km)
	return ""
}

func TestOpen(t *testing.T) {
	byDefault, err := filepath.Abs(mock.DefaultPath)
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{ // empty: ErrConfig
		"mock:":                  "mock " + byDefault,
		"mock:/a/keys.json":      "mock /a/keys.json",
		"mock:/a/b:c.json":       "mock /a/b:c.json",
		"mock:/a/keys.db":        "", // the mock has no database
		"http://km:8080":         "http://km:8080",
		"http://km:8080/":        "http://km:8080",
		"https://km.example:1/p": "https://km.example:1/p",
		"http://[::1]:8080":      "http://[::1]:8080",
		"":                       "", "mock": "", "Mock:": "", "km:8080": "", "ftp://km": "", "http:": "", "https://": "",
		"http://u:s3cret@km": "", "u:s3cret@km": "",
	} {
		km, err := KeyManager(spec, Options{})
		if got := where(t, km); got != want {
			t.Errorf("KeyManager(%q) is %q, want %q", spec, got, want)
		}
		if want == "" && !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("KeyManager(%q): %v, want ErrConfig", spec, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("KeyManager(%q): the error shows the password", spec)
		}
	}
	if _, err := KeyManager("http://km:1", Options{CAFile: "ca.pem"}); !errors.Is(err, kmclient.ErrConfig) {
		t.Errorf("a CA file and no TLS: %v, want ErrConfig", err)
	}
	if _, err := KeyManager("mock:a/keys.db", Options{}); err == nil || !strings.Contains(err.Error(), "use mock:a/keys.json") {
		t.Errorf("a database: %v, want an error that names a JSON file", err)
	}
	_, err = KeyManager("nonsense", Options{})
	for _, form := range []string{"mock:PATH", "http://HOST:PORT", "https://HOST:PORT"} {
		if err == nil || !strings.Contains(err.Error(), form) {
			t.Errorf("the error %q does not name the form %s", err, form)
		}
	}
}

func TestOpenETSI014(t *testing.T) {
	ca := fakekm.NewCA(t)
	cert, key := ca.Issue(t, "sae", fakekm.Loopback("SAE"))
	env := map[string]string{
		"QKD_KM": "etsi014:https://a:1,https://[::1]:2", "QKD_KM_CERT": cert, "QKD_KM_KEY": key, "QKD_KM_CA": ca.File,
		"QKD_KME_ID": "KME_A", "QKD_SAE": "SAE_A", "QKD_USE_MOCK": "nonsense",
	}
	km, err := FromEnv(func(name string) string { return env[name] }, Options{CAFile: "/none", SAE: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if got := where(t, km); got != "SAE_A at a:1 [::1]:2" {
		t.Errorf("FromEnv is %s", got)
	}
	for _, spec := range []string{"etsi014", "etsi014:", "etsi014:a:1", "etsi014:http://a:1", "etsi014:https://a:1,"} {
		if km, err := KeyManager(spec, Options{CertFile: cert, KeyFile: key}); !errors.Is(err, kmclient.ErrConfig) || km != nil {
			t.Errorf("KeyManager(%q) = %v, %v, want nil and ErrConfig", spec, km, err)
		}
	}
}
