package kmsim

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// 32 callers on each side: no ID twice, no key lost.
func TestConcurrent(t *testing.T) {
	s := start(t, Options{})
	s.enc(`{}`) // makes the clients
	s.dec("x")
	var seen sync.Map
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for range 5 {
				m, err := s.try(a, atA, "POST", encB, `{"number":4}`)
				if err != nil || m.status != 200 {
					t.Errorf("enc_keys: HTTP %d, %v", m.status, err)
					return
				}
				sent, ids := m.keys(t)
				for _, id := range ids {
					if _, twice := seen.LoadOrStore(id, true); twice {
						t.Errorf("%s handed out twice", id)
					}
				}
				m, err = s.try(b, atB, "POST", decA, idList(ids...))
				if err != nil || m.status != 200 {
					t.Errorf("dec_keys: HTTP %d, %v", m.status, err)
					return
				}
				got, _ := m.keys(t)
				for id, key := range sent {
					if !bytes.Equal(key, got[id]) {
						t.Errorf("%s differs", id)
					}
				}
			}
		})
	}
	all.Wait()
}

// Of many callers that ask for one key, one gets it.
func TestContested(t *testing.T) {
	s := start(t, Options{})
	_, ids := s.enc(`{}`)
	s.dec("x") // makes the client
	var won, lost int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			m, err := s.try(b, atB, "POST", decA, idList(ids...))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && m.status == 200:
				won++
			case err == nil && m.status == 400 && m.text() == notFound:
				lost++
			}
		})
	}
	all.Wait()
	if won != 1 || lost != 31 {
		t.Errorf("%d got the key and %d did not, want 1 and 31", won, lost)
	}
}

func TestExhaustion(t *testing.T) {
	for _, status := range []int{503, 400} {
		s := start(t, Options{Capacity: 5, ExhaustedStatus: status})
		s.enc(`{"number":2}`)
		s.enc(`{"size":264}`) // is worth two keys
		m := s.do(a, atA, "POST", encB, `{"number":2}`)
		if m.status != status || m.text() != "no keys available: the key pool is exhausted" {
			t.Errorf("HTTP %d %s, want %d", m.status, m.body, status)
		}
		m = s.do(b, atB, "GET", "/api/v1/keys/SAE_A/status", "")
		if !strings.Contains(string(m.body), `"stored_key_count":1,"max_key_count":5,`) {
			t.Errorf("status: %s", m.body)
		}
		s.enc(`{}`)
		// Another pair has its own stock.
		s.do(a, atA, "POST", "/api/v1/keys/SAE_C/enc_keys", `{"number":5}`).keys(t)
	}
}

func TestStockRefills(t *testing.T) {
	now := time.Unix(0, 0)
	s := newStock(Options{Rate: 2, Capacity: 10})
	s.now, s.at = func() time.Time { return now }, now
	if !s.take(10) || s.take(1) {
		t.Error("a full stock does not have 10 keys")
	}
	now = now.Add(1500 * time.Millisecond)
	if s.take(4) || !s.take(3) || s.take(1) {
		t.Error("after 1.5 s at 2 keys/s there are not 3 keys")
	}
	now = now.Add(time.Hour)
	if ready, capacity := s.count(); ready != 10 || capacity != 10 {
		t.Errorf("after an hour: %d of %d keys", ready, capacity)
	}
}

func TestMaxWaiting(t *testing.T) {
	s := start(t, Options{MaxWaiting: 3})
	_, ids := s.enc(`{"number":3}`)
	m := s.do(a, atA, "POST", encB, `{}`)
	if m.status != 503 || m.text() != "key store exhausted: too many keys wait to be fetched" {
		t.Errorf("HTTP %d %s", m.status, m.body)
	}
	s.dec(ids[0]).keys(t)
	s.enc(`{}`)
}

func TestLatency(t *testing.T) {
	s := start(t, Options{Latency: 30 * time.Millisecond})
	begin := time.Now()
	s.do(a, atA, "GET", statusB, "")
	if took := time.Since(begin); took < 30*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestFail(t *testing.T) {
	if m := start(t, Options{Fail: "status=500:1"}).do(a, atA, "GET", statusB, ""); m.status != 500 || m.text() != "simulated failure" {
		t.Errorf("status=500: HTTP %d %s", m.status, m.body)
	}
	for fail, left := range map[string]int{"cut:1": 0, "lost:1": 2} {
		s := start(t, Options{Fail: fail})
		if m, err := s.try(a, atA, "POST", encB, `{"number":2}`); err == nil {
			t.Errorf("%s: HTTP %d, want no answer", fail, m.status)
		}
		s.stop()
		if n := s.waiting(); n != left {
			t.Errorf("%s: %d keys are stored, want %d", fail, n, left)
		}
	}
}

func TestParseFail(t *testing.T) {
	good, err := parseFail("status=429:0.25, cut:0.25,lost:0.25,0.25")
	want := []failRule{{"status", 429, 0.25}, {"cut", 0, 0.25}, {"lost", 0, 0.25}, {"status", 503, 0.25}}
	if err != nil || len(good) != len(want) {
		t.Fatalf("%+v, %v", good, err)
	}
	for i, r := range good {
		if r != want[i] {
			t.Errorf("rule %d: %+v, want %+v", i, r, want[i])
		}
	}
	hits := map[failRule]int{}
	for range 4000 {
		hits[strike(good)]++
	}
	for _, r := range want {
		if hits[r] < 800 || hits[r] > 1200 {
			t.Errorf("%+v struck %d times of 4000", r, hits[r])
		}
	}
	for _, bad := range []string{"x", "-1", "1.1", "NaN", "status:1", "status=200:1", "status=x:1", "cut=1:1", "burn:1", "0.1,,", "0.6,cut:0.6", "cut:"} {
		if _, err := parseFail(bad); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%q: %v, want ErrConfig", bad, err)
		}
	}
}

// The access log says who got how many keys, and no key is in it.
func TestAccessLog(t *testing.T) {
	var log bytes.Buffer
	s := start(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	sent, ids := s.enc(`{"number":2}`)
	s.dec(ids...)
	s.do(b, atB, "GET", decA+"?key_ID="+ids[0], "")
	s.stop()
	for _, want := range []string{
		"msg=request method=POST path=/api/v1/keys/SAE_B/enc_keys sae=SAE_A status=200 keys=2",
		"msg=request method=POST path=/api/v1/keys/SAE_A/dec_keys sae=SAE_B status=200 keys=2",
		"msg=request method=GET path=/api/v1/keys/SAE_A/dec_keys sae=SAE_B status=400 keys=0",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line %q in\n%s", want, log.String())
		}
	}
	for _, key := range sent {
		if strings.Contains(log.String(), base64.StdEncoding.EncodeToString(key)[:20]) {
			t.Error("a key is in the log")
		}
	}
}

func TestIdentity(t *testing.T) {
	uri, _ := url.Parse("urn:sae:a")
	other, _ := url.Parse("urn:other")
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: "SAE_A"}, SerialNumber: big.NewInt(0xAB01),
		URIs: []*url.URL{other, uri}, DNSNames: []string{"a.example", "b.example"},
	}
	r, _ := http.NewRequest("GET", "/", nil)
	for _, c := range []struct {
		identity string
		saes     []string
		want     string
	}{
		{"", []string{"SAE_A", "SAE_B"}, "SAE_A"},
		{identityCN, []string{"sae_a", "SAE_B"}, ""},
		{identityURI, []string{"urn:sae:a", "SAE_A"}, "urn:sae:a"},
		{identityDNS, []string{"b.example", "SAE_A"}, "b.example"},
		{identityDNS, []string{"a.example", "b.example"}, ""}, // which of them?
		{identitySerial, []string{"ab01", "SAE_A"}, "ab01"},
	} {
		topology := Topology{KMEs: []string{"K"}, Identity: c.identity}
		for _, id := range c.saes {
			topology.SAEs = append(topology.SAEs, SAE{id, "K"})
		}
		n, err := topology.check(Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		if id, ok := n.caller(r); id != c.want && ok || ok != (c.want != "") {
			t.Errorf("%q: the caller is %q, %v, want %q", c.identity, id, ok, c.want)
		}
		r.TLS.VerifiedChains = nil
		if id, ok := n.caller(r); ok {
			t.Errorf("%q: the certificate was not verified, and the caller is %q", c.identity, id)
		}
	}
}

func TestConfig(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, topology := range map[string]Topology{
		"no KME":           {},
		"KME twice":        {KMEs: []string{"K", "K"}},
		"KME without ID":   {KMEs: []string{""}},
		"long ID":          {KMEs: []string{long}},
		"SAE at no KME":    {KMEs: []string{"K"}, SAEs: []SAE{{"S", "L"}}},
		"SAE twice":        {KMEs: []string{"K"}, SAEs: []SAE{{"S", "K"}, {"S", "K"}}},
		"control ID":       {KMEs: []string{"K"}, SAEs: []SAE{{"S\n", "K"}}},
		"unknown SAE":      {KMEs: []string{"K"}, SAEs: []SAE{{"S", "K"}}, Pairs: [][2]string{{"S", "T"}}},
		"pair with itself": {KMEs: []string{"K"}, SAEs: []SAE{{"S", "K"}}, Pairs: [][2]string{{"S", "S"}}},
		"identity":         {KMEs: []string{"K"}, Identity: "ou"},
	} {
		if _, err := NewETSI(topology, Options{}); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	for name, o := range map[string]Options{
		"size": {KeySize: 12}, "small": {MinKeySize: -8}, "large": {MaxKeySize: 16 << 20}, "default outside": {KeySize: 32},
		"number": {MaxKeysPerRequest: 1 << 20}, "answer": {MaxKeySize: 8 << 20, MaxKeysPerRequest: 4096}, "capacity": {Capacity: -1},
		"rate": {Rate: -1}, "status": {ExhaustedStatus: 404}, "quirk": {Quirks: Quirks{UnknownKeyStatus: 200}},
		"lose": {Quirks: Quirks{LoseAnswers: -1}}, "fail": {Fail: "often"},
	} {
		if _, err := NewETSI(testTopology(), o); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	e, err := NewETSI(testTopology(), Options{Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Handler("KME_X"); !errors.Is(err, kmclient.ErrConfig) {
		t.Errorf("an unknown KME: %v", err)
	}
}
