// Package kmtest has simulated key managers for the tests of the programs: one link
// of two sites, with what key managers in the field do.
package kmtest

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// The APIs that a Habit can be started with.
const (
	ETSI  = "ETSI"  // two linked KMEs over mutual TLS
	QMail = "QMail" // one key manager for both sites, over plain HTTP
)

// A Side is what a program of one site needs to know of its key manager. What the
// API does not need is empty.
type Side struct {
	KM            string // as --km has it
	SAE, Peer     string
	CA, Cert, Key string // files
}

// A Link is a running key manager, or two.
type Link struct {
	A, B Side

	t      testing.TB
	kmes   map[string]*atomic.Pointer[http.Handler]
	simple *atomic.Pointer[http.Handler] // the QMail REST API's
}

// Start runs key managers with a habit until the test ends.
func (h Habit) Start(t testing.TB, api string) *Link {
	t.Helper()
	l := &Link{t: t}
	if api == QMail {
		l.simple = new(atomic.Pointer[http.Handler])
		l.Become(h)
		l.A.KM = "http://" + l.serve(l.simple, nil)
		l.B = l.A
		return l
	}
	certs := t.TempDir()
	if _, err := kmsim.WriteCerts(certs, kmsim.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	l.kmes = map[string]*atomic.Pointer[http.Handler]{"KME_A": {}, "KME_B": {}}
	l.Become(h)
	l.A = l.side(certs, "KME_A", "SAE_A", "SAE_B")
	l.B = l.side(certs, "KME_B", "SAE_B", "SAE_A")
	return l
}

// Become gives the key managers another habit while they run. Keys that wait to be
// fetched are gone.
func (l *Link) Become(h Habit) {
	l.t.Helper()
	if l.simple != nil {
		q, err := kmsim.NewQMail(h.Options)
		if err != nil {
			l.t.Fatal(err)
		}
		l.simple.Store(new(http.Handler(q)))
		return
	}
	topology := kmsim.Topology{
		KMEs: []string{"KME_A", "KME_B"},
		SAEs: []kmsim.SAE{{ID: "SAE_A", KME: "KME_A"}, {ID: "SAE_B", KME: "KME_B"}},
	}
	if h.Strangers {
		topology.Pairs = [][2]string{}
	}
	e, err := kmsim.NewETSI(topology, h.Options)
	if err != nil {
		l.t.Fatal(err)
	}
	for id, at := range l.kmes {
		handler, err := e.Handler(id)
		if err != nil {
			l.t.Fatal(err)
		}
		at.Store(&handler)
	}
}

// side starts a KME and returns what its SAE needs to know.
func (l *Link) side(certs, kme, sae, peer string) Side {
	l.t.Helper()
	file := func(id string) (cert, key string) {
		cert, key = kmsim.CertFiles(id)
		return filepath.Join(certs, cert), filepath.Join(certs, key)
	}
	ca, _ := file("CA")
	cert, key := file(kme)
	config, err := kmsim.ServerTLS(kmsim.TLSFiles{Cert: cert, Key: key, CA: ca})
	if err != nil {
		l.t.Fatal(err)
	}
	s := Side{KM: "etsi014:https://" + l.serve(l.kmes[kme], config), SAE: sae, Peer: peer, CA: ca}
	s.Cert, s.Key = file(sae)
	return s
}

// serve runs a handler that can change, at a port of the system's choice. config is
// nil for plain HTTP.
func (l *Link) serve(at *atomic.Pointer[http.Handler], config *tls.Config) (address string) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*at.Load()).ServeHTTP(w, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that clients cut
	if config == nil {
		server.Start()
	} else {
		server.TLS, server.EnableHTTP2 = config, true
		server.StartTLS()
	}
	l.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
