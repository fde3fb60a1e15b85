package kmdoctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/kmclient"
)

// withoutPeer are the checks that need the peer's KME.
const withoutPeer = "peer-status dec-keys dec-deleted dec-get dec-whole dec-later"

// offline are all checks that are made after TLS.
func offline() string {
	var ids []string
	for _, s := range steps() {
		if !strings.HasPrefix(s.id, "tls-") {
			ids = append(ids, s.id)
		}
	}
	return strings.Join(ids, " ")
}

func TestConforming(t *testing.T) {
	for name, test := range map[string]struct {
		o    kmsim.Options
		peer bool
		skip string
		keys int
	}{
		"with the peer":       {kmsim.Options{}, true, "", 6},
		"without the peer":    {kmsim.Options{}, false, withoutPeer, 6},
		"one key a request":   {kmsim.Options{MaxKeysPerRequest: 1}, true, "", 4},
		"one size":            {kmsim.Options{KeySize: 256, MinKeySize: 256, MaxKeySize: 256}, true, "", 6},
		"the least is usual":  {kmsim.Options{KeySize: 64}, true, "refuse-size", 6}, // it would cost 8,197 keys
		"more than is read":   {kmsim.Options{MaxKeySize: 8 << 20}, true, "refuse-size", 6},
		"many keys a request": {kmsim.Options{MaxKeysPerRequest: 1024, MaxKeySize: 4096}, true, "", 6},
		"short keys":          {kmsim.Options{KeySize: 8, MinKeySize: 8, MaxKeySize: 8, MaxKeysPerRequest: 3}, true, "key-random", 6},
		"a stock of ten":      {kmsim.Options{Capacity: 10}, true, "", 6},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.o, nil, nil)
			r := run(t, w.options(test.peer))
			expect(t, r, Fail, "")
			expect(t, r, Warn, "")
			expect(t, r, Skip, test.skip)
			if r.KeysUsed != test.keys || r.KeysUsed != int(w.given.Load()) || r.KeysLost != 0 {
				t.Errorf("%d keys used, %d lost; the simulator gave out %d, want %d", r.KeysUsed, r.KeysLost, w.given.Load(), test.keys)
			}
			if !r.Conforms() {
				t.Error("it does not conform")
			}
			sum := 0
			for _, c := range r.Checks {
				sum += c.Keys
			}
			if sum != r.KeysUsed {
				t.Errorf("the checks used %d keys", sum)
			}
		})
	}
}

// Each quirk breaks the rules that it should, and no other.
func TestQuirks(t *testing.T) {
	type q = kmsim.Quirks
	for name, test := range map[string]struct {
		o                kmsim.Options
		fail, warn, skip string
	}{
		"unknown key 404": {kmsim.Options{Quirks: q{UnknownKeyStatus: 404}}, "dec-unknown", "", ""},
		"unknown key 500": {kmsim.Options{Quirks: q{UnknownKeyStatus: 500}}, "dec-unknown", "", ""},
		"HTML errors":     {kmsim.Options{Quirks: q{HTMLErrors: true}}, "refuse-multiple refuse-mandatory dec-unknown error-body", "", ""},
		"numeric target":  {kmsim.Options{Quirks: q{NumericTarget: true}}, "status-fields", "peer-status", ""},
		"query ignored":   {kmsim.Options{Quirks: q{IgnoreQuery: true}}, "enc-get", "", ""},
		"size ignored":    {kmsim.Options{Quirks: q{IgnoreSize: true}}, "enc-size enc-get", "", ""},
		"keys kept":       {kmsim.Options{Quirks: q{KeepKeys: true}}, "dec-deleted", "", ""},
		"keys repeated":   {kmsim.Options{Quirks: q{RepeatKeys: true}}, "key-id-once", "", ""},
		"fewer keys": {kmsim.Options{Quirks: q{FewerKeys: true}}, "enc-default enc-number enc-get enc-optional", "",
			"dec-stranger dec-own dec-whole dec-later"},
		"earlier keys forgotten": {kmsim.Options{Quirks: q{ForgetEarlier: true}}, "dec-later", "", ""},
		"an answer lost":         {kmsim.Options{Quirks: q{LoseAnswers: 1}}, "enc-default", "", ""},
		"two answers lost": {kmsim.Options{Quirks: q{LoseAnswers: 2}}, "enc-default enc-number", "",
			"enc-size enc-get enc-optional dec-keys dec-deleted dec-get dec-stranger dec-own dec-whole dec-later " +
				"refuse-multiple refuse-number refuse-size refuse-mandatory refuse-json refuse-sae key-id key-id-once key-base64 key-random"},
		"exhausted 503": {kmsim.Options{Capacity: 1}, "", "",
			"enc-number enc-size enc-get enc-optional dec-get dec-stranger dec-own dec-whole dec-later"},
		"exhausted 400": {kmsim.Options{Capacity: 1, ExhaustedStatus: 400}, "", "",
			"enc-number enc-size enc-get enc-optional dec-get dec-stranger dec-own dec-whole dec-later"},
		"exhausted, worded otherwise": {kmsim.Options{Capacity: 1, ExhaustedStatus: 400, Quirks: q{
			ExhaustedMessage: "The requested key amount exceeds the generated key count. Try again later."}}, "", "",
			"enc-number enc-size enc-get enc-optional dec-get dec-stranger dec-own dec-whole dec-later"},
		"limits not kept":            {kmsim.Options{MaxKeysPerRequest: 2, MaxKeySize: 512, Quirks: q{IgnoreLimits: true}}, "refuse-number refuse-size", "", ""},
		"limits not in the status":   {kmsim.Options{Quirks: q{HideLimits: true}}, "status-fields status-sizes status-counts", "", "enc-size refuse-number refuse-size"},
		"sizes rounded up to 8 bits": {kmsim.Options{Quirks: q{RoundSize: 8}}, "", "refuse-multiple", ""},
		"one key an answer":          {kmsim.Options{Quirks: q{MostKeys: 1}}, "enc-number enc-get", "", "dec-later"},
		"0 stored, yet keys":         {kmsim.Options{Quirks: q{ZeroStock: true}}, "", "stored-count", ""},
		"401 for an unknown key":     {kmsim.Options{Quirks: q{UnknownKeyStatus: 401}}, "dec-unknown", "", ""},
		"status 500": {kmsim.Options{Quirks: q{StatusStatus: 500}}, "status peer-status", "",
			"status-fields status-sizes status-counts status-sae enc-size refuse-number refuse-size stored-count"},
		"strict about the optional": {kmsim.Options{StrictOptional: true}, "", "enc-optional", ""},
		"busy":                      {kmsim.Options{Fail: "status=503:1"}, "status", "tls-client", "*"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.o, nil, nil)
			r := run(t, w.options(true))
			expect(t, r, Fail, test.fail)
			if test.skip != "*" {
				expect(t, r, Warn, test.warn)
				expect(t, r, Skip, test.skip)
			}
			if r.KeysUsed+r.KeysLost != int(w.given.Load()) {
				t.Errorf("%d keys used, %d lost; the simulator gave out %d", r.KeysUsed, r.KeysLost, w.given.Load())
			}
			if r.Conforms() != (test.fail == "") {
				t.Errorf("Conforms: %v", r.Conforms())
			}
		})
	}
}

// A KME that repeats keys is found out even without the peer.
func TestQuirksWithoutPeer(t *testing.T) {
	for name, test := range map[string]struct {
		quirk kmsim.Quirks
		fail  string
	}{
		"repeated":  {kmsim.Quirks{RepeatKeys: true}, "key-id-once"},
		"forgotten": {kmsim.Quirks{ForgetEarlier: true}, ""},
		"kept":      {kmsim.Quirks{KeepKeys: true}, ""},
	} {
		w := start(t, kmsim.Options{Quirks: test.quirk}, nil, nil)
		r := run(t, w.options(false))
		t.Log(name)
		expect(t, r, Fail, test.fail)
		expect(t, r, Skip, withoutPeer)
	}
}

func TestSlow(t *testing.T) {
	w := start(t, kmsim.Options{Quirks: kmsim.Quirks{Slow: time.Minute}}, nil, nil)
	o := w.options(true)
	o.Timeout = 500 * time.Millisecond
	begin := time.Now()
	r := run(t, o)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	expect(t, r, Fail, "enc-default enc-number")
	if r.KeysUsed != 0 || r.KeysLost != 3 || !strings.Contains(r.Summary(), "0 keys used, up to 3 lost") {
		t.Errorf("%s", r.Summary())
	}
}

func TestNoKME(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><p>welcome")
	})
	plain := httptest.NewServer(page)
	defer plain.Close()
	noClient := func(c *tls.Config) { c.ClientAuth = tls.NoClientCert }
	isPage := func(string, http.Handler) http.Handler { return page }
	w, other := start(t, kmsim.Options{}, nil, nil), start(t, kmsim.Options{}, nil, nil)
	web, open := start(t, kmsim.Options{}, isPage, nil), start(t, kmsim.Options{}, isPage, noClient)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	for name, test := range map[string]struct {
		change func(*Options)
		fail   string
		words  string
	}{
		"dead":               {func(o *Options) { o.URL = "https://" + dead.Addr().String() }, "tls-handshake", "refused"},
		"silent":             {func(o *Options) { o.URL = "https://" + silent.Addr().String() }, "tls-handshake", "no connection within 300ms"},
		"plain HTTP":         {func(o *Options) { o.URL = "https://" + plain.Listener.Addr().String() }, "tls-handshake", "is it a plain HTTP port?"},
		"another CA":         {func(o *Options) { o.CAFile = other.Certs.CA() }, "tls-certificate", "unknown authority"},
		"the system's CAs":   {func(o *Options) { o.CAFile = "" }, "tls-certificate", "unknown authority"},
		"another KME":        {func(o *Options) { o.KMEID = "KME_B" }, "tls-kme-id", `is not the KME "KME_B"`},
		"a web server":       {func(o *Options) { *o = web.options(false) }, "status", "is this a KME?"},
		"an open web server": {func(o *Options) { *o = open.options(false) }, "tls-client status", "is this a KME?"},
		"another path":       {func(o *Options) { o.URL += "/kme" }, "status enc-default", "is the URL that of a KME?"},
		"the peer's KME":     {func(o *Options) { o.URL, o.KMEID = w.URL["KME_B"], "" }, "status enc-default", "is it the certificate of an SAE"},
		"a foreign client":   {func(o *Options) { o.CertFile, o.KeyFile = other.Certs.Of("SAE_A") }, "status", "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options(false)
			test.change(&o)
			o.Timeout = 3 * time.Second
			if name == "silent" {
				o.Timeout = 300 * time.Millisecond
			}
			r := run(t, o)
			failed := test.fail
			if strings.Contains(name, "web server") {
				failed += " content-type"
			}
			expect(t, r, Fail, failed)
			detail := ""
			for id := range strings.FieldsSeq(test.fail) {
				detail += r.Check(id).Detail + "; "
			}
			if !strings.Contains(detail, test.words) {
				t.Errorf("detail %q\nwant   %q", detail, test.words)
			}
			if r.KeysUsed+r.KeysLost != 0 || r.Conforms() || len(r.Checks) != len(steps()) {
				t.Errorf("%s (%d checks)", r.Summary(), len(r.Checks))
			}
			if strings.HasPrefix(test.fail, "tls") && test.fail != "tls-client status" {
				for id := range strings.FieldsSeq(offline()) {
					if c := r.Check(id); c.Result != Skip {
						t.Errorf("%s: %s, %s", id, c.Result, c.Detail)
					}
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*tls.Config)
		fail   string
		warn   string
	}{
		"old TLS":                 {func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }, "tls-old", ""},
		"TLS 1.2 only":            {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "", "tls-group"},
		"old TLS only":            {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "tls-handshake", ""},
		"401 without certificate": {func(c *tls.Config) { c.ClientAuth = tls.VerifyClientCertIfGiven }, "", ""},
		"1.2, 401 without":        {func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.VerifyClientCertIfGiven, tls.VersionTLS12 }, "", "tls-group"},
		"post-quantum only":       {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768} }, "", ""},
		"not post-quantum":        {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, "", "tls-group"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, kmsim.Options{}, nil, test.change)
			r := run(t, w.options(false))
			expect(t, r, Fail, test.fail)
			expect(t, r, Warn, test.warn)
			if c := r.Check("tls-group"); c.Result == Warn && !strings.Contains(c.Detail, "which is not post-quantum: recorded today, readable later") {
				t.Errorf("the remark about the group is %q", c.Detail)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	w := start(t, kmsim.Options{}, nil, nil)
	for name, change := range map[string]func(*Options){
		"no URL":             func(o *Options) { o.URL = "" },
		"HTTP":               func(o *Options) { o.URL = "http://127.0.0.1:1" },
		"a password":         func(o *Options) { o.URL = "https://user:secret@127.0.0.1:1" },
		"no peer":            func(o *Options) { o.Peer = "" },
		"a peer that climbs": func(o *Options) { o.Peer = ".." },
		"an SAE that climbs": func(o *Options) { o.SAE = "a/../b" },
		"no certificate":     func(o *Options) { o.CertFile = "" },
		"no such file":       func(o *Options) { o.CAFile += "x" },
		"half a peer":        func(o *Options) { o.PeerURL = "https://127.0.0.1:1" },
		"two KME IDs":        func(o *Options) { o.KMEID = "a,b" },
		"negative keys":      func(o *Options) { o.MaxKeys = -1 },
		"negative time-out":  func(o *Options) { o.Timeout = -1 },
	} {
		o := w.options(false)
		change(&o)
		if r, err := Run(t.Context(), o); !errors.Is(err, kmclient.ErrConfig) || r != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := start(t, kmsim.Options{}, change(func(e *exchange) {
		if e.what() == "enc_keys" {
			cancel()
			<-e.r.Context().Done()
		}
	}), nil)
	r, err := Run(ctx, w.options(false))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// The key may have come at the same moment.
	if len(r.Checks) != len(steps()) || r.Check("status").Result != Pass || r.Check("dec-keys").Result == Pass || r.KeysUsed+r.KeysLost != 1 {
		t.Errorf("%+v", r)
	}
}

// Neither our SAE ID nor the KME's ID need be given.
func TestFewOptions(t *testing.T) {
	w := start(t, kmsim.Options{}, nil, nil)
	o := w.options(true)
	o.SAE, o.KMEID, o.PeerKMEID, o.Timeout = "", "", "", 0
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := run(t, o)
	expect(t, r, Fail, "")
	expect(t, r, Skip, "tls-kme-id")
	if r.SAE != "SAE_A" {
		t.Errorf("SAE %q", r.SAE)
	}
	if strings.Count(log.String(), "\n") < 20 {
		t.Errorf("log: %s", log.String())
	}
}

func TestReport(t *testing.T) {
	r := &Report{KME: "https://kme", Peer: "B", KeysUsed: 6, Checks: []Check{
		{ID: "a", Rule: clause + "§6.1: first", Result: Pass, Detail: "fine"},
		{ID: "b", Rule: general + "second", Result: Fail, Detail: "bad\x1b[31m\nred\u202e\u009b1m\ttab"},
		{ID: "c", Rule: sense + "third", Result: Warn},
		{ID: "d", Rule: "fourth", Result: Skip},
	}}
	var b strings.Builder
	if err := WriteTable(&b, r); err != nil {
		t.Fatal(err)
	}
	const want = "RESULT  RULE OF ETSI GS QKD 014 V1.1.1    DETAIL\n" +
		"pass    §6.1: first                       fine\n" +
		"fail    second                            bad[31m red1m tab\n" +
		"warn    no rule, but common sense: third  \n" +
		"skip    fourth                            \n" +
		"\n2 of 3 rules kept, 6 keys used; 1 with a warning; 1 not checked\n"
	if b.String() != want {
		t.Errorf("%q\nwant %q", b.String(), want)
	}
	if r.Conforms() || (&Report{}).Conforms() || r.Count(Skip) != 1 || r.Check("x") != (Check{}) {
		t.Error("counts")
	}
	var back Report
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || back.KeysUsed != 6 || back.Checks[1] != r.Checks[1] || !strings.Contains(string(text), `"result":"pass"`) {
		t.Errorf("%s (%v)", text, err)
	}
	for n := range strings.Count(want, "\n") - 1 {
		if err := WriteTable(&brokenWriter{n}, r); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a writer that fails after %d lines: %v", n, err)
		}
	}
}

// A brokenWriter fails after some lines.
type brokenWriter struct{ left int }

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.left -= bytes.Count(p, []byte("\n")); b.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// Keys are not left in memory.
func TestWipe(t *testing.T) {
	w := start(t, kmsim.Options{}, nil, nil)
	d, err := newDoctor(w.options(true))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps() {
		d.run(t.Context(), s)
	}
	d.close()
	for _, k := range d.keys {
		if bytes.Count(k.secret, []byte{0}) != len(k.secret) || len(k.secret) == 0 {
			t.Errorf("key %s is there", k.id)
		}
	}
	if len(d.keys) != 6 {
		t.Errorf("%d keys", len(d.keys))
	}
}
