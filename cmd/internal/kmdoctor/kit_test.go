package kmdoctor

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// A world is two KMEs with an SAE each, on loopback.
type world struct {
	certs string
	url   map[string]string // by KME
	given atomic.Int64      // keys that enc_keys gave out
}

// start runs the simulator until the test ends. wrap may change what a KME
// does; it and the change of TLS may be nil.
func start(t testing.TB, o kmsim.Options, wrap func(kme string, h http.Handler) http.Handler, change func(*tls.Config)) *world {
	t.Helper()
	w := &world{certs: t.TempDir(), url: map[string]string{}}
	if _, err := kmsim.WriteCerts(w.certs, kmsim.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	o.Logger = slog.New(counter{w})
	network, err := kmsim.NewETSI(kmsim.Topology{
		KMEs: []string{"KME_A", "KME_B"},
		SAEs: []kmsim.SAE{{ID: "SAE_A", KME: "KME_A"}, {ID: "SAE_B", KME: "KME_B"}},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"KME_A", "KME_B"} {
		handler, err := network.Handler(id)
		if err != nil {
			t.Fatal(err)
		}
		if wrap != nil {
			handler = wrap(id, handler)
		}
		w.url[id] = w.serve(t, strings.ToLower(id), handler, change)
	}
	return w
}

// serve runs a handler over mutual TLS and returns its URL.
func (w *world) serve(t testing.TB, cert string, h http.Handler, change func(*tls.Config)) string {
	t.Helper()
	config, err := kmsim.ServerTLS(kmsim.TLSFiles{Cert: w.file(cert + ".crt"), Key: w.file(cert + ".key"), CA: w.file("ca.crt")})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(config)
	}
	return "https://" + serve(t, h, config)
}

func serve(t testing.TB, h http.Handler, config *tls.Config) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = kmsim.Serve(ctx, l, h, kmsim.ServeOptions{TLS: config}) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return l.Addr().String()
}

func (w *world) file(name string) string { return filepath.Join(w.certs, name) }

// options are those of SAE_A at KME_A, with the peer's or without.
func (w *world) options(peer bool) Options {
	o := Options{
		URL: w.url["KME_A"], SAE: "SAE_A", Peer: "SAE_B", KMEID: "KME_A",
		CertFile: w.file("sae_a.crt"), KeyFile: w.file("sae_a.key"), CAFile: w.file("ca.crt"), Timeout: 10 * time.Second,
		MaxKeys: 5000, // so that every check is made
	}
	if peer {
		o.PeerURL, o.PeerCertFile, o.PeerKeyFile = w.url["KME_B"], w.file("sae_b.crt"), w.file("sae_b.key")
		o.PeerKMEID = "KME_B"
	}
	return o
}

func run(t testing.TB, o Options) *Report {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expect compares the checks that have a result with those that should.
func expect(t *testing.T, r *Report, result Result, want string) {
	t.Helper()
	var got []string
	for _, c := range r.Checks {
		if c.Result == result {
			got = append(got, c.ID)
		}
	}
	wanted := strings.Fields(want)
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		var table strings.Builder
		_ = WriteTable(&table, r)
		t.Errorf("%s: %q\nwant  %q\n%s", result, got, wanted, table.String())
	}
}

// A counter counts the keys in the access log of a simulator.
type counter struct{ w *world }

func (c counter) Enabled(context.Context, slog.Level) bool { return true }
func (c counter) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c counter) WithGroup(string) slog.Handler            { return c }
func (c counter) Handle(_ context.Context, r slog.Record) error {
	enc, keys := false, int64(0)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "path":
			enc = strings.HasSuffix(a.Value.String(), "/enc_keys")
		case "keys":
			keys = a.Value.Int64()
		}
		return true
	})
	if enc {
		c.w.given.Add(keys)
	}
	return nil
}
