package etsi014

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func TestKMEIdentity(t *testing.T) {
	uri := &url.URL{Scheme: "urn", Opaque: "kme:a"}
	full := fakekm.Loopback("KME_A")
	full.URIs, full.DNSNames = []*url.URL{uri}, []string{"kme-a.example"}
	full.SerialNumber, full.Subject.SerialNumber = big.NewInt(0x0A1B), "SN-7"
	nameless := &x509.Certificate{Subject: pkix.Name{CommonName: "KME_A"}, SerialNumber: big.NewInt(17)}
	ca := fakekm.NewCA(t)
	withHost, withoutHost := newFakeKMEWith(t, ca, full), newFakeKMEWith(t, ca, nameless)
	for _, test := range []struct {
		km   *fakeKME
		id   string
		good bool
	}{
		{withHost, "", true},
		{withHost, "KME_A", true},
		{withHost, "cn:KME_A", true},
		{withHost, "urn:kme:a", true},
		{withHost, "URI:urn:kme:a", true},
		{withHost, "KME-A.example", true},
		{withHost, "dns:kme-a.example", true},
		{withHost, "SN-7", true},
		{withHost, "serial:SN-7", true},
		{withHost, "serial:0a:1b", true},
		{withHost, "serial:0A1B", true},
		{withHost, "serial:2587", true},
		{withHost, "2587", false}, // could be another KME's ID
		{withHost, "kme_a", false},
		{withHost, "KME_B", false},
		{withHost, "uri:KME_A", false},
		{withHost, "cn:urn:kme:a", false},
		{withHost, "dns:KME_A", false},
		{withHost, "serial:KME_A", false},
		{withoutHost, "", false},
		{withoutHost, "KME_A", true},
		{withoutHost, "17", false},
		{withoutHost, "serial:17", true},
	} {
		before := test.km.requests("enc_keys")
		e := etsiClient(t, Options{KMEID: test.id}, test.km)
		_, err := e.GetKeys(t.Context(), "B", 256, 1)
		if test.good != (err == nil) {
			t.Errorf("KME ID %q: %v, want good: %t", test.id, err, test.good)
		}
		if test.good {
			continue
		}
		if !errors.Is(err, kmclient.ErrUnavailable) || test.id != "" && !strings.Contains(err.Error(), "is not the KME") {
			t.Errorf("KME ID %q: %v, want ErrUnavailable that says why", test.id, err)
		}
		if test.km.requests("enc_keys") != before || e.Stats().Burned != 0 {
			t.Errorf("KME ID %q: a request went to the wrong KME, or counts as burned: %+v", test.id, e.Stats())
		}
	}
}

func TestWrongKMEIsPassedOver(t *testing.T) {
	ca := fakekm.NewCA(t)
	wrong, right := newFakeKMEWith(t, ca, fakekm.Loopback("KME_X")), newFakeKMEWith(t, ca, fakekm.Loopback("KME_B"))
	e := etsiClient(t, Options{KMEID: "KME_A, cn:KME_B"}, wrong, right)
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil || wrong.requests("enc_keys") != 0 {
		t.Errorf("the first KME is a different one: %v, want the second's key", err)
	}
}

func TestCertificatesNotTrusted(t *testing.T) {
	ca, other := fakekm.NewCA(t), fakekm.NewCA(t)
	km := newFakeKME(t, ca)
	for _, id := range []string{"", "KME_A"} {
		e := etsiClient(t, Options{CAFile: other.File, KMEID: id}, km)
		if _, err := e.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a KME of another CA, KME ID %q: %v, want ErrUnavailable for the certificate", id, err)
		}
	}
	cert, key := other.Issue(t, "sae", fakekm.Loopback("SAE_A"))
	e := etsiClient(t, Options{CertFile: cert, KeyFile: key}, km)
	_, err := e.GetKeys(t.Context(), "B", 256, 1)
	if !errors.Is(err, kmclient.ErrRefused) && !errors.Is(err, kmclient.ErrUnavailable) { // the latter if a reset overtakes the alert
		t.Errorf("a client of another CA: %v, want ErrRefused", err)
	}
	if n := km.requests("enc_keys"); n != 0 {
		t.Errorf("the KME served %d requests", n)
	}
}

// subjects records the names in the client certificates of a KME's callers.
func subjects(km *fakeKME) *atomic.Value {
	var last atomic.Value
	inner := km.Config.Handler
	km.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		inner.ServeHTTP(w, r)
	})
	return &last
}

func TestCertificateReload(t *testing.T) {
	ca := fakekm.NewCA(t)
	km := newFakeKME(t, ca)
	caller := subjects(km)
	var log bytes.Buffer
	cert, key := ca.Issue(t, "sae", fakekm.Loopback("before"))
	e := etsiClient(t, Options{
		CertFile: cert, KeyFile: key, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}, km)
	ask := func(want, when string) {
		t.Helper()
		if _, err := e.Status(t.Context(), "B"); err != nil || caller.Load() != want {
			t.Errorf("%s: %v, calls as %v, want %s", when, err, caller.Load(), want)
		}
	}
	ask("before", "at first")
	later := time.Now().Add(time.Minute)
	if err := os.WriteFile(cert, []byte("half a certifi"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e.kmes[0].caller.HTTP.CloseIdleConnections()
		ask("before", "with a broken file")
	}
	if n := strings.Count(log.String(), "stay in use"); n != 1 {
		t.Errorf("the broken file was logged %d times, want once:\n%s", n, &log)
	}
	ca.Issue(t, "sae", fakekm.Loopback("after"))
	if err := os.Chtimes(cert, later, later); err != nil { // however coarse the file system's clock is
		t.Fatal(err)
	}
	ask("after", "with new files")
	ask("after", "still")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	e.kmes[0].caller.HTTP.CloseIdleConnections()
	ask("after", "without the key file")
	if strings.Contains(log.String(), "PRIVATE") {
		t.Error("the log shows a key file's content")
	}
}

func TestTakenForAnotherSAE(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	for sae, want := range map[string]int{"": 0, "SAE_A": 0, "SAE_X": 1} {
		var log bytes.Buffer
		e := etsiClient(t, Options{SAE: sae, Logger: slog.New(slog.NewTextHandler(&log, nil))}, km)
		for range 2 {
			if _, err := e.Status(t.Context(), "B"); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "another SAE"); n != want {
			t.Errorf("as %q: warned %d times, want %d", sae, n, want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, but never shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	e := etsiClient(t, Options{URLs: []string{"https://" + listener.Addr().String()}}, km)
	e.kmes[0].caller.Transport.DialTLSContext = e.kmes[0].files.dialer(new(net.Dialer).DialContext, kmeID{}, 200*time.Millisecond)
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Errorf("a KME that does not answer the handshake, and one that does: %v", err)
	}
	if s := e.Stats(); s.Burned != 0 || s.Failovers != 1 {
		t.Errorf("counted %+v, want one failover and nothing burned", s)
	}
}
