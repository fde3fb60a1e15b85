package kmsim

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/kmclient"
)

// An SAE is a Secure Application Entity: a client of a KME.
type SAE struct {
	ID  string // as its certificate has it
	KME string // ID of the KME that it is attached to
}

// A Topology is a network of KMEs, all linked with each other.
type Topology struct {
	KMEs []string // their IDs
	SAEs []SAE
	// Pairs are the pairs of SAEs that may share keys, in any order; nil: all.
	Pairs [][2]string
	// Identity is the field of a client certificate that has the SAE's ID: cn
	// (if empty), uri, dns or serial.
	Identity string
}

// TwoSites returns the smallest network: SAE_A at KME_A, linked with SAE_B at
// KME_B.
func TwoSites() Topology {
	return Topology{
		KMEs: []string{"KME_A", "KME_B"},
		SAEs: []SAE{{ID: "SAE_A", KME: "KME_A"}, {ID: "SAE_B", KME: "KME_B"}},
	}
}

// maxID is the longest ID of a KME or SAE, in bytes.
const maxID = 255

// network is a Topology that has passed its checks.
type network struct {
	home     map[string]string // KME of each SAE
	stocks   map[string]*stock // by pool
	identity string
}

// check checks and indexes a topology; each pair gets a stock by the options.
func (t Topology) check(o Options) (*network, error) {
	n := &network{home: map[string]string{}, stocks: map[string]*stock{}, identity: t.Identity}
	if len(t.KMEs) == 0 {
		return nil, fmt.Errorf("%w: no KME", kmclient.ErrConfig)
	}
	for i, kme := range t.KMEs {
		if err := checkEntityID(kme); err != nil {
			return nil, err
		}
		if slices.Contains(t.KMEs[:i], kme) {
			return nil, fmt.Errorf("%w: KME %q twice", kmclient.ErrConfig, kme)
		}
	}
	for _, sae := range t.SAEs {
		if err := checkEntityID(sae.ID); err != nil {
			return nil, err
		}
		if !slices.Contains(t.KMEs, sae.KME) {
			return nil, fmt.Errorf("%w: SAE %q at KME %q, which does not exist", kmclient.ErrConfig, sae.ID, sae.KME)
		}
		if _, twice := n.home[sae.ID]; twice {
			return nil, fmt.Errorf("%w: SAE %q twice", kmclient.ErrConfig, sae.ID)
		}
		n.home[sae.ID] = sae.KME
	}
	if !slices.Contains([]string{"", identityCN, identityURI, identityDNS, identitySerial}, n.identity) {
		return nil, fmt.Errorf("%w: identity %q: must be cn, uri, dns or serial", kmclient.ErrConfig, n.identity)
	}
	return n, n.addPairs(t, o)
}

func (n *network) addPairs(t Topology, o Options) error {
	pairs := t.Pairs
	if pairs == nil {
		for i, a := range t.SAEs {
			for _, b := range t.SAEs[:i] {
				pairs = append(pairs, [2]string{a.ID, b.ID})
			}
		}
	}
	for _, p := range pairs {
		for _, id := range p {
			if _, ok := n.home[id]; !ok {
				return fmt.Errorf("%w: SAE %q of a pair does not exist", kmclient.ErrConfig, id)
			}
		}
		if p[0] == p[1] {
			return fmt.Errorf("%w: a pair of SAE %q with itself", kmclient.ErrConfig, p[0])
		}
		n.stocks[poolOf(p[0], p[1])] = newStock(o)
	}
	return nil
}

// paired reports whether two SAEs may share keys.
func (n *network) paired(a, b string) bool {
	_, ok := n.stocks[poolOf(a, b)]
	return ok
}

// poolOf names the pool of keys of two SAEs, whichever is the master.
func poolOf(a, b string) string {
	if a > b {
		a, b = b, a
	}
	return url.PathEscape(a) + "/" + url.PathEscape(b) // which escapes a slash
}

func checkEntityID(id string) error {
	if id == "" || len(id) > maxID || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		return fmt.Errorf("%w: ID %q: must be 1 to %d bytes of printable UTF-8", kmclient.ErrConfig, id, maxID)
	}
	return nil
}
