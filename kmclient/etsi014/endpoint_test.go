package etsi014

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func TestEndpoint(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	o := Options{URLs: []string{km.URL}, CAFile: km.ca.File, KMEID: "KME_A"}
	o.CertFile, o.KeyFile = km.ca.Issue(t, "sae_a", &x509.Certificate{Subject: pkix.Name{CommonName: "SAE_A"}})
	base, config, err := o.Endpoint()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", base[len("https://"):], config)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	for name, change := range map[string]func(*Options){
		"two KMEs": func(o *Options) { o.URLs = append(o.URLs, o.URLs...) },
		"HTTP":     func(o *Options) { o.URLs = []string{"http://127.0.0.1:1"} },
		"no URL":   func(o *Options) { o.URLs = []string{"%"} },
		"two IDs":  func(o *Options) { o.KMEID = "a,b" },
		"no files": func(o *Options) { o.CertFile = "" },
	} {
		bad := o
		bad.URLs = append([]string(nil), o.URLs...)
		change(&bad)
		if _, _, err := bad.Endpoint(); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusal(t *testing.T) {
	e := Refusal("get keys", http.StatusBadRequest, []byte(`{"message":"no keys available"}`))
	if !errors.Is(e, kmclient.ErrKeyExhausted) || e.Message != "no keys available" {
		t.Errorf("%v", e)
	}
	if path, err := Path("a/b", "status"); path != "/api/v1/keys/a%2Fb/status" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := Path("..", "status"); !errors.Is(err, kmclient.ErrBadRequest) {
		t.Errorf("%v", err)
	}
}
