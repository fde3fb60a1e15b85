package kmtest

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// The APIs that a Habit can be started with.
const (
	ETSI  = "ETSI"  // two linked KMEs over mutual TLS
	QMail = "QMail" // one key manager for both sites, over plain HTTP
)

// A Side is what a program at one site needs to know about its key manager.
// Fields that the API does not need are empty.
type Side struct {
	KM            string // as for --km
	SAE, Peer     string
	CA, Cert, Key string // files
}

// A Link is two running KMEs, or one key manager for both sites.
type Link struct {
	A, B Side

	t    testing.TB
	api  string
	kmes map[string]*handler // by ID; "" for the QMail REST API
	ids  map[string]string   // of SAEs, if not the names in their certificates
}

// A handler passes requests on to another handler, which can change.
type handler struct{ atomic.Pointer[http.Handler] }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*h.Load()).ServeHTTP(w, r) }

// Start runs key managers with a habit until the test ends.
func (h Habit) Start(t testing.TB, api string) *Link {
	t.Helper()
	l := &Link{t: t, api: api, kmes: map[string]*handler{"": {}, "KME_A": {}, "KME_B": {}}}
	l.Become(h)
	if api == QMail {
		server := httptest.NewServer(l.kmes[""])
		t.Cleanup(server.Close)
		l.A.KM = server.URL
		l.B = l.A
		return l
	}
	topology := h.topology()
	network := StartKMEs(t, topology, kmsim.Options{}, func(kme string, s *httptest.Server) { s.Config.Handler = l.kmes[kme] })
	l.ids = network.ids
	l.Become(h)
	side := func(sae, peer string) Side {
		o := network.Options(sae)
		return Side{KM: "etsi014:" + o.URLs[0], SAE: o.SAE, Peer: network.Options(peer).SAE, CA: o.CAFile, Cert: o.CertFile, Key: o.KeyFile}
	}
	l.A, l.B = side("SAE_A", "SAE_B"), side("SAE_B", "SAE_A")
	return l
}

// topology is the network of a habit.
func (h Habit) topology() kmsim.Topology {
	topology := kmsim.TwoSites()
	if h.Strangers {
		topology.Pairs = [][2]string{}
	}
	if p, err := kmsim.ProfileNamed(h.Profile); err == nil {
		topology.Identity = p.Identity
	}
	return topology
}

// Become gives the key managers another habit while they run. Keys waiting to
// be fetched are lost.
func (l *Link) Become(h Habit) {
	l.t.Helper()
	if l.api == QMail {
		q, err := kmsim.NewQMail(h.Options)
		if err != nil {
			l.t.Fatal(err)
		}
		l.kmes[""].Store(new(http.Handler(q)))
		return
	}
	topology := rename(h.topology(), l.ids)
	e, err := kmsim.NewETSI(topology, h.Options)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, id := range topology.KMEs {
		handler, err := e.Handler(id)
		if err != nil {
			l.t.Fatal(err)
		}
		l.kmes[id].Store(&handler)
	}
}
