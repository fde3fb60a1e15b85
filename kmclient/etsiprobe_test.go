package kmclient

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"testing"
)

func TestETSIEndpoint(t *testing.T) {
	km := newFakeKME(t, newTestCA(t))
	o := ETSI014Options{URLs: []string{km.URL}, CAFile: km.ca.file, KMEID: "KME_A"}
	o.CertFile, o.KeyFile = km.ca.issue(t, "sae_a", &x509.Certificate{Subject: pkix.Name{CommonName: "SAE_A"}})
	base, config, err := o.Endpoint()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", base[len("https://"):], config)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	for name, change := range map[string]func(*ETSI014Options){
		"two KMEs": func(o *ETSI014Options) { o.URLs = append(o.URLs, o.URLs...) },
		"HTTP":     func(o *ETSI014Options) { o.URLs = []string{"http://127.0.0.1:1"} },
		"no URL":   func(o *ETSI014Options) { o.URLs = []string{"%"} },
		"two IDs":  func(o *ETSI014Options) { o.KMEID = "a,b" },
		"no files": func(o *ETSI014Options) { o.CertFile = "" },
	} {
		bad := o
		bad.URLs = append([]string(nil), o.URLs...)
		change(&bad)
		if _, _, err := bad.Endpoint(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestETSIRefusal(t *testing.T) {
	e := ETSIRefusal("get keys", http.StatusBadRequest, []byte(`{"message":"no keys available"}`))
	if !errors.Is(e, ErrKeyExhausted) || e.Message != "no keys available" {
		t.Errorf("%v", e)
	}
	if path, err := ETSIPath("a/b", "status"); path != "/api/v1/keys/a%2Fb/status" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := ETSIPath("..", "status"); !errors.Is(err, ErrBadRequest) {
		t.Errorf("%v", err)
	}
}
