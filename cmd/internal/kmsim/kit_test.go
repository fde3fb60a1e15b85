package kmsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// oddSAE has characters that need escaping in a path.
const oddSAE = "urn:sae/x y%é"

// testTopology has three KMEs; SAE_D may share keys with SAE_B only.
func testTopology() Topology {
	return Topology{
		KMEs: []string{"KME_A", "KME_B", "KME_C"},
		SAEs: []SAE{{"SAE_A", "KME_A"}, {"SAE_B", "KME_B"}, {"SAE_C", "KME_C"}, {"SAE_D", "KME_A"}, {oddSAE, "KME_C"}},
		Pairs: [][2]string{{"SAE_A", "SAE_B"}, {"SAE_C", "SAE_A"}, {"SAE_B", "SAE_C"}, {"SAE_D", "SAE_B"},
			{oddSAE, "SAE_A"}},
	}
}

// A site is the test topology, running on loopback.
type site struct {
	t       testing.TB
	certs   Certs
	url     map[string]string // by KME
	mu      sync.Mutex
	clients map[string]*http.Client // by SAE
	held    *keyring
	stop    func()
}

// start runs the test topology until the test ends.
func start(t testing.TB, o Options) *site {
	return startWith(t, testTopology(), o, false)
}

func startWith(t testing.TB, topology Topology, o Options, optionalCert bool) *site {
	t.Helper()
	s := &site{t: t, certs: Certs(t.TempDir()), url: map[string]string{}, clients: map[string]*http.Client{}}
	all := []string{"SAE_STRANGER"}
	for _, sae := range topology.SAEs {
		all = append(all, sae.ID)
	}
	if _, err := s.certs.Make(CertOptions{KMEs: topology.KMEs, SAEs: all}); err != nil {
		t.Fatal(err)
	}
	e, err := NewETSI(topology, o)
	if err != nil {
		t.Fatal(err)
	}
	s.held = e.core.held
	ctx, cancel := context.WithCancel(context.Background())
	var servers sync.WaitGroup
	for _, id := range topology.KMEs {
		handler, err := e.Handler(id)
		if err != nil {
			t.Fatal(err)
		}
		config, err := s.certs.ServerTLS(id)
		if err != nil {
			t.Fatal(err)
		}
		if optionalCert {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
		s.url[id] = serve(t, ctx, &servers, handler, ServeOptions{TLS: config})
	}
	s.stop = sync.OnceFunc(func() {
		for _, c := range s.clients {
			c.CloseIdleConnections()
		}
		cancel()
		servers.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

// serve runs a handler on a port that the system chooses and returns its URL.
func serve(t testing.TB, ctx context.Context, running *sync.WaitGroup, h http.Handler, o ServeOptions) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		if err := Serve(ctx, l, h, o); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	if o.TLS == nil {
		return "http://" + l.Addr().String()
	}
	return "https://" + l.Addr().String()
}

// client returns the HTTP client of an SAE; "" has no certificate.
func (s *site) client(sae string) *http.Client {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.clients[sae]; ok {
		return c
	}
	ca, err := os.ReadFile(s.certs.CA())
	if err != nil {
		s.t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(ca)
	if sae != "" {
		pair, err := tls.LoadX509KeyPair(s.certs.Of(sae))
		if err != nil {
			s.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	c := &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 32},
		Timeout:   30 * time.Second,
		// A redirect would be an answer outside the standard.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.clients[sae] = c
	return c
}

// A message is an HTTP answer.
type message struct {
	status int
	header http.Header
	body   []byte
}

// text returns the message of an error body.
func (m message) text() string {
	var e struct {
		Message string           `json:"message"`
		Details []map[string]any `json:"details"`
	}
	d := json.NewDecoder(bytes.NewReader(m.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return "(no error body: " + err.Error() + ")"
	}
	return e.Message
}

// keys returns the keys of an answer by ID, and their IDs in order.
func (m message) keys(t testing.TB) (map[string][]byte, []string) {
	t.Helper()
	var c struct {
		Keys []struct {
			ID  string `json:"key_ID"`
			Key []byte `json:"key"`
		} `json:"keys"`
	}
	d := json.NewDecoder(bytes.NewReader(m.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); m.status != http.StatusOK || err != nil {
		t.Fatalf("no keys but HTTP %d: %.200s (%v)", m.status, m.body, err)
	}
	keys, ids := map[string][]byte{}, []string{}
	for _, k := range c.Keys {
		keys[k.ID] = k.Key
		ids = append(ids, k.ID)
	}
	if len(keys) != len(ids) {
		t.Fatalf("an ID twice: %q", ids)
	}
	return keys, ids
}

// try sends a request; a body that is not empty is JSON, unless another content
// type stands before a "|".
func (s *site) try(sae, kme, method, path, body string) (message, error) {
	kind, rest, other := strings.Cut(body, "|")
	if other {
		body = rest
	} else if kind = ""; body != "" {
		kind = "application/json"
	}
	return send(s.client(sae), s.url[kme]+path, method, kind, body)
}

func send(c *http.Client, address, method, kind, body string) (message, error) {
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		return message{}, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	a, err := c.Do(r)
	if err != nil {
		return message{}, err
	}
	text, err := io.ReadAll(a.Body)
	return message{a.StatusCode, a.Header, text}, errors.Join(err, a.Body.Close())
}

func (s *site) do(sae, kme, method, path, body string) message {
	s.t.Helper()
	m, err := s.try(sae, kme, method, path, body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return m
}

// enc fetches keys for SAE_B, as SAE_A.
func (s *site) enc(body string) (map[string][]byte, []string) {
	s.t.Helper()
	return s.do("SAE_A", "KME_A", "POST", "/api/v1/keys/SAE_B/enc_keys", body).keys(s.t)
}

// dec asks for keys from SAE_A, as SAE_B.
func (s *site) dec(ids ...string) message {
	s.t.Helper()
	return s.do("SAE_B", "KME_B", "POST", "/api/v1/keys/SAE_A/dec_keys", idList(ids...))
}

// waiting returns how many keys of SAE_A and SAE_B can be fetched.
func (s *site) waiting() int {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	return s.held.count[poolOf("SAE_A", "SAE_B")]
}

func idList(ids ...string) string {
	list := make([]map[string]string, len(ids))
	for i, id := range ids {
		list[i] = map[string]string{"key_ID": id}
	}
	text, _ := json.Marshal(map[string]any{"key_IDs": list})
	return string(text)
}

var oddPath = url.PathEscape(oddSAE)
