package etsi014

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// A fakeKME does what ETSI GS QKD 014 says, for both sites of a link at once, unless
// hook answers instead.
type fakeKME struct {
	*httptest.Server
	ca         *fakekm.CA
	perRequest int
	refuses    map[string]int // methods that can't ask for keys, and the HTTP status that says so
	// hook is called for each request, with the operation, the number of the request
	// among its kind (from 1), and the body. It returns true if it has answered.
	hook func(op string, n int, w http.ResponseWriter, body []byte) bool

	mu    sync.Mutex
	vault map[string][]byte // keys that dec_keys can deliver
	count map[string]int    // requests, by operation
	given []string          // IDs given out by enc_keys
}

func newFakeKME(t testing.TB, ca *fakekm.CA) *fakeKME {
	t.Helper()
	return newFakeKMEWith(t, ca, fakekm.Loopback("KME_A"))
}

func newFakeKMEWith(t testing.TB, ca *fakekm.CA, template *x509.Certificate, groups ...tls.CurveID) *fakeKME {
	t.Helper()
	km := &fakeKME{ca: ca, perRequest: 128, vault: map[string][]byte{}, count: map[string]int{}}
	certFile, keyFile := ca.Issue(t, fmt.Sprintf("kme%p", km), template)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	km.Server = httptest.NewUnstartedServer(km)
	km.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		CurvePreferences: groups,
	}
	km.Config.ErrorLog = log.New(io.Discard, "", 0)
	km.StartTLS()
	t.Cleanup(km.Close)
	return km
}

func (km *fakeKME) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	op := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	km.mu.Lock()
	km.count[op]++
	n, hook, refused := km.count[op], km.hook, km.refuses[r.Method]
	km.mu.Unlock()
	if op != "status" && refused != 0 {
		fakekm.Answer(refused, `{"message":"method not allowed"}`)(w, nil)
		return
	}
	if q := r.URL.Query(); r.Method == http.MethodGet && op != "status" {
		body = fmt.Appendf(nil, `{"number":%s,"size":%s,"key_IDs":[{"key_ID":%q}]}`, cmp.Or(q.Get("number"), "1"), cmp.Or(q.Get("size"), "256"), q.Get("key_ID"))
	}
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
			fakekm.Answer(400, `{"message":"too many keys asked for"}`)(w, nil)
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
		km.vault[id] = fakekm.RandomBytes(size / 8)
		km.given = append(km.given, id)
		list = append(list, fakekm.KeyJSON(id, km.vault[id]))
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
		fakekm.Answer(400, `{"message":"too many keys asked for"}`)(w, nil)
		return
	}
	km.mu.Lock()
	defer km.mu.Unlock()
	var list []string
	for _, k := range request.IDs {
		if km.vault[kmclient.CanonicalID(k.ID)] == nil {
			fakekm.Answer(400, `{"message":"one or more keys specified are not found on KME","details":[{"key_ID":"`+k.ID+`"}]}`)(w, nil)
			return
		}
	}
	for _, k := range request.IDs {
		id := kmclient.CanonicalID(k.ID)
		list = append(list, fakekm.KeyJSON(id, km.vault[id]))
		delete(km.vault, id)
	}
	_, _ = fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(list, ","))
}

// requests returns how many requests for op there were.
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
func (km *fakeKME) put(secret []byte) string {
	km.mu.Lock()
	defer km.mu.Unlock()
	id := uuid.NewString()
	km.vault[id] = secret
	return id
}

func (km *fakeKME) putMany(n int) (ids []string) {
	for range n {
		ids = append(ids, km.put(fakekm.RandomBytes(32)))
	}
	return ids
}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// etsiClient returns a client of KMEs that does not wait between two tries.
func etsiClient(t testing.TB, o Options, kmes ...*fakeKME) *Client {
	t.Helper()
	for _, km := range kmes {
		o.URLs = append(o.URLs, km.URL)
	}
	if o.CAFile == "" {
		o.CAFile = kmes[0].ca.File
	}
	if o.CertFile == "" {
		o.CertFile, o.KeyFile = kmes[0].ca.Issue(t, "sae_a", &x509.Certificate{Subject: pkix.Name{CommonName: "SAE_A"}})
	}
	e, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	e.pause = func(ctx context.Context) error { return ctx.Err() }
	for _, k := range e.kmes {
		k.caller.Pause = e.pause
	}
	t.Cleanup(e.CloseIdle)
	return e
}

func k64(secret []byte) string { return base64.StdEncoding.EncodeToString(secret) }
