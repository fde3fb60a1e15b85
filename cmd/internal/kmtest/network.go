package kmtest

import (
	"cmp"
	"crypto/tls"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

// A Network is a set of simulated KMEs over mutual TLS, on ports that the
// system chooses.
type Network struct {
	Certs kmsim.Certs
	URL   map[string]string // by KME

	t    testing.TB
	home map[string]string // KME of each SAE
	ids  map[string]string // ID of each SAE, if not the name in its certificate
}

// StartKMEs runs KMEs until the test ends. change, which may be nil, can alter
// the server of a KME before it starts.
func StartKMEs(t testing.TB, topology kmsim.Topology, o kmsim.Options, change func(kme string, s *httptest.Server)) *Network {
	t.Helper()
	n := &Network{t: t, Certs: kmsim.Certs(t.TempDir()), URL: map[string]string{}, home: map[string]string{}, ids: map[string]string{}}
	certs := kmsim.CertOptions{KMEs: topology.KMEs}
	for _, sae := range topology.SAEs {
		certs.SAEs = append(certs.SAEs, sae.ID)
		n.home[sae.ID] = sae.KME
	}
	if _, err := n.Certs.Make(certs); err != nil {
		t.Fatal(err)
	}
	if topology.Identity == "serial" {
		n.ids = n.serials(topology)
	}
	network, err := kmsim.NewETSI(rename(topology, n.ids), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, kme := range topology.KMEs {
		handler, err := network.Handler(kme)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // it would log connections that clients cut
		server.EnableHTTP2 = true
		if server.TLS, err = n.Certs.ServerTLS(kme); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(kme, server)
		}
		server.StartTLS()
		t.Cleanup(server.Close)
		n.URL[kme] = server.URL
	}
	return n
}

// serials returns the serial numbers of the certificates of all SAEs.
func (n *Network) serials(topology kmsim.Topology) map[string]string {
	n.t.Helper()
	ids := map[string]string{}
	for _, sae := range topology.SAEs {
		cert, key := n.Certs.Of(sae.ID)
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			n.t.Fatal(err)
		}
		ids[sae.ID] = pair.Leaf.SerialNumber.Text(16)
	}
	return ids
}

// rename returns a topology with other IDs for its SAEs.
func rename(topology kmsim.Topology, ids map[string]string) kmsim.Topology {
	topology.SAEs = slices.Clone(topology.SAEs)
	for i, sae := range topology.SAEs {
		topology.SAEs[i].ID = cmp.Or(ids[sae.ID], sae.ID)
	}
	return topology
}

// Options returns the options of an SAE's client.
func (n *Network) Options(sae string) etsi014.Options {
	kme := n.home[sae]
	cert, key := n.Certs.Of(sae)
	return etsi014.Options{URLs: []string{n.URL[kme]}, KMEID: kme, SAE: cmp.Or(n.ids[sae], sae), CertFile: cert, KeyFile: key, CAFile: n.Certs.CA()}
}

// Client returns the client of an SAE.
func (n *Network) Client(sae string) *etsi014.Client {
	n.t.Helper()
	km, err := etsi014.New(n.Options(sae))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(km.CloseIdle)
	return km
}
