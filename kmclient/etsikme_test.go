package kmclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// A testCA issues certificates into a folder of the test.
type testCA struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	serial    int64
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	ca := &testCA{dir: t.TempDir(), serial: 0xC0FFEE}
	ca.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	ca.file, _ = ca.issue(t, "ca", ca.cert)
	return ca
}

// issue makes a certificate with what template says, and returns its files.
func (ca *testCA) issue(t testing.TB, name string, template *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if ca.key == nil {
		ca.key = key
	}
	if ca.serial++; template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(ca.serial)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(ca.dir, name+".crt"), filepath.Join(ca.dir, name+".key")
	for file, block := range map[string]pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(&block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// loopback is a certificate template for a server of the test.
func loopback(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

// A fakeKME does what ETSI GS QKD 014 says, for both sites of a link at once,
// unless hook answers in its place.
type fakeKME struct {
	*httptest.Server
	ca         *testCA
	perRequest int
	// hook is called with each request: the operation, the how-manieth of its
	// kind it is, and the body. It returns true if it has answered.
	hook func(op string, n int, w http.ResponseWriter, body []byte) bool

	mu    sync.Mutex
	vault map[string][]byte // keys that dec_keys can deliver
	count map[string]int    // requests, by operation
	given []string          // IDs given out by enc_keys
}

func newFakeKME(t testing.TB, ca *testCA) *fakeKME {
	t.Helper()
	return newFakeKMEWith(t, ca, loopback("KME_A"))
}

func newFakeKMEWith(t testing.TB, ca *testCA, template *x509.Certificate) *fakeKME {
	t.Helper()
	km := &fakeKME{ca: ca, perRequest: 128, vault: map[string][]byte{}, count: map[string]int{}}
	certFile, keyFile := ca.issue(t, fmt.Sprintf("kme%p", km), template)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(parseCert(t, ca.file))
	km.Server = httptest.NewUnstartedServer(km)
	km.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	km.Config.ErrorLog = log.New(io.Discard, "", 0)
	km.StartTLS()
	t.Cleanup(km.Close)
	return km
}

func parseCert(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (km *fakeKME) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	op := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	km.mu.Lock()
	km.count[op]++
	n, hook := km.count[op], km.hook
	km.mu.Unlock()
	if hook != nil && hook(op, n, w, body) {
		return
	}
	km.serve(op, w, body)
}

func (km *fakeKME) serve(op string, w http.ResponseWriter, body []byte) {
	switch op {
	case "status":
		_, _ = fmt.Fprintf(w, `{"source_KME_ID":"KME_A","master_SAE_ID":"SAE_A","key_size":256,"stored_key_count":1000,
			"max_key_per_request":%d,"max_key_size":4096,"min_key_size":64,"max_SAE_ID_count":2}`, km.perRequest)
	case "enc_keys":
		var request encRequest
		if json.Unmarshal(body, &request) != nil || request.Number > km.perRequest {
			answer(400, `{"message":"too many keys asked for"}`)(w, nil)
			return
		}
		_, _ = io.WriteString(w, km.fresh(request.Number, request.Size))
	case "dec_keys":
		km.serveDec(w, body)
	default:
		http.NotFound(w, nil)
	}
}

// fresh makes keys and returns them as an answer.
func (km *fakeKME) fresh(number, size int) string {
	list := make([]string, 0, number)
	km.mu.Lock()
	defer km.mu.Unlock()
	for range number {
		id := uuid.NewString()
		km.vault[id] = randomOctets(size / 8)
		km.given = append(km.given, id)
		list = append(list, keyJSON(id, km.vault[id]))
	}
	return `{"keys":[` + strings.Join(list, ",") + `]}`
}

func (km *fakeKME) serveDec(w http.ResponseWriter, body []byte) {
	var request struct {
		IDs []struct {
			ID string `json:"key_ID"`
		} `json:"key_IDs"`
	}
	if json.Unmarshal(body, &request) != nil || len(request.IDs) > km.perRequest {
		answer(400, `{"message":"too many keys asked for"}`)(w, nil)
		return
	}
	km.mu.Lock()
	defer km.mu.Unlock()
	var list []string
	for _, k := range request.IDs {
		if km.vault[CanonicalID(k.ID)] == nil {
			answer(400, `{"message":"one or more keys specified are not found on KME","details":[{"key_ID":"`+k.ID+`"}]}`)(w, nil)
			return
		}
	}
	for _, k := range request.IDs {
		id := CanonicalID(k.ID)
		list = append(list, keyJSON(id, km.vault[id]))
		delete(km.vault, id)
	}
	_, _ = fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(list, ","))
}

// requests returns how many of each kind there were.
func (km *fakeKME) requests(op string) int {
	km.mu.Lock()
	defer km.mu.Unlock()
	return km.count[op]
}

// setHook changes the hook while the server runs.
func (km *fakeKME) setHook(hook func(op string, n int, w http.ResponseWriter, body []byte) bool) {
	km.mu.Lock()
	defer km.mu.Unlock()
	km.hook = hook
}

// put stores a key for dec_keys, and returns its ID.
func (km *fakeKME) put(octets []byte) string {
	km.mu.Lock()
	defer km.mu.Unlock()
	id := uuid.NewString()
	km.vault[id] = octets
	return id
}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// etsiClient is a client of KMEs that does not wait between two tries.
func etsiClient(t testing.TB, o ETSI014Options, kmes ...*fakeKME) *ETSI014 {
	t.Helper()
	for _, km := range kmes {
		o.URLs = append(o.URLs, km.URL)
	}
	if o.CAFile == "" {
		o.CAFile = kmes[0].ca.file
	}
	if o.CertFile == "" {
		o.CertFile, o.KeyFile = kmes[0].ca.issue(t, "sae_a", &x509.Certificate{Subject: pkix.Name{CommonName: "SAE_A"}})
	}
	e, err := NewETSI014(o)
	if err != nil {
		t.Fatalf("NewETSI014: %v", err)
	}
	e.pause = func(ctx context.Context) error { return ctx.Err() }
	for _, k := range e.kmes {
		k.caller.pause = e.pause
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func k64(octets []byte) string { return base64.StdEncoding.EncodeToString(octets) }
