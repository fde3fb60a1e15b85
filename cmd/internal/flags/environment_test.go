package flags

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/open"
)

// TestVariablesAreNamed: an error about a value from the environment names its
// variable, and no other.
func TestVariablesAreNamed(t *testing.T) {
	dir := t.TempDir()
	certs := kmsim.Certs(dir)
	if _, err := certs.Make(kmsim.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	ca := certs.CA()
	cert, key := certs.Of("SAE_A")
	none := filepath.Join(dir, "none.pem")
	etsi := map[string]string{"QKD_KM": "etsi014:https://km:1", "QKD_KM_CERT": cert, "QKD_KM_KEY": key, "QKD_KM_CA": ca, "QKD_KME_ID": "KME_A", "QKD_SAE": "SAE_A"}
	for _, tt := range []struct {
		name, value string // what is wrong
		also        map[string]string
	}{
		{"QKD_KM", "nonsense", nil},
		{"QKD_KM", "http://user:s3cret@km", nil},
		{"QKD_KM", "etsi014:http://km", nil},
		{"QKD_KM_CA", none, map[string]string{"QKD_USE_MOCK": "0", "QKD_KM_HTTPS": "1"}},
		{"QKD_KM_CA", ca, map[string]string{"QKD_USE_MOCK": "0"}},
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
		spec, err := open.EnvSpec(getenv)
		if err == nil {
			_, err = open.KeyManager(spec, open.Options{
				CAFile: getenv("QKD_KM_CA"), CertFile: getenv("QKD_KM_CERT"), KeyFile: getenv("QKD_KM_KEY"),
				KMEID: getenv("QKD_KME_ID"), SAE: getenv("QKD_SAE"),
			})
		}
		err = NameVariables(err, getenv)
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
