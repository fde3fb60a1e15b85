package kmdoctor

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
)

// A world is two KMEs with an SAE each, on loopback.
type world struct {
	*kmtest.Network
	given atomic.Int64 // keys that enc_keys gave out
}

// start runs the simulator until the test ends. wrap may change what a KME
// does, and change its TLS; both may be nil.
func start(t testing.TB, o kmsim.Options, wrap func(kme string, h http.Handler) http.Handler, change func(*tls.Config)) *world {
	t.Helper()
	w := &world{}
	o.Logger = slog.New(counter{w})
	w.Network = kmtest.StartKMEs(t, kmsim.TwoSites(), o, func(kme string, s *httptest.Server) {
		if wrap != nil {
			s.Config.Handler = wrap(kme, s.Config.Handler)
		}
		if change != nil {
			change(s.TLS)
		}
	})
	return w
}

// options returns the options of SAE_A at KME_A, with or without the peer's.
func (w *world) options(peer bool) Options {
	own, other := w.Options("SAE_A"), w.Options("SAE_B")
	o := Options{
		URL: own.URLs[0], SAE: own.SAE, Peer: other.SAE, KMEID: own.KMEID,
		CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: own.CAFile, Timeout: 10 * time.Second,
		MaxKeys: 5000, // so that every check is made
	}
	if peer {
		o.PeerURL, o.PeerCertFile, o.PeerKeyFile, o.PeerKMEID = other.URLs[0], other.CertFile, other.KeyFile, other.KMEID
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
