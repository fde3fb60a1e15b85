package sim

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// siteNames are the names of sites; a site's domain is NAME.example.
var siteNames = []string{"a", "b", "c"}

// The addresses at a site.
func nodeIP(site, n int) string { return fmt.Sprintf("10.%d.1.%d", site, n+1) }
func kmeIP(site int) string     { return fmt.Sprintf("10.%d.2.1", site) }
func queueIP(site int) string   { return fmt.Sprintf("10.%d.3.1", site) }
func mtaIP(site int) string     { return fmt.Sprintf("10.%d.4.1", site) }
func boxIP(site int) string     { return fmt.Sprintf("10.%d.5.1", site) }

const attackerIP = "10.9.9.9"

// Ports of a node.
const (
	encryptPort = ":2525"
	decryptPort = ":25"
)

// A site has users, mail systems, relays, a store that they share, and a KME.
type site struct {
	world *world
	index int
	name  string
	sae   string

	queue *queue // of its users' mail
	wire  *queue // of encrypted mail, at the site's MTA
	nodes []*node

	records   atomic.Pointer[memory.Records]
	keys      []keystore.StoreKey // the last one is in use
	backups   int                 // copies that may yet take the store's place
	rotating  chan struct{}       // holds something while the operator changes the key or the store
	cert      string              // the name of the client certificate
	renewedAt time.Time           // when it replaced another
	closing   keystore.Policy
	links     map[string]*qkdLink // by the other site's SAE
	kme       *http.Server

	changed   atomic.Bool               // the configuration was changed
	hybrid    atomic.Bool               // the relays have an X-Wing key
	announced atomic.Bool               // its public key is in the other sites' configurations
	known     atomic.Pointer[time.Time] // since when all their relays use it; nil: not yet
}

func newSite(w *world, index int) *site {
	s := &site{
		world: w, index: index, name: siteNames[index], sae: "SAE_" + siteNames[index],
		keys: []keystore.StoreKey{keystore.NewStoreKey()}, rotating: make(chan struct{}, 1), links: map[string]*qkdLink{}, closing: w.sc.closing(),
	}
	s.records.Store(memory.New())
	if s.hybrid.Store(w.sc.Hybrid); w.sc.Hybrid {
		s.announced.Store(true)
		s.known.Store(&w.start)
	}
	s.install(s.sae)
	for i := range w.sc.Nodes {
		s.nodes = append(s.nodes, &node{site: s, name: fmt.Sprint(s.name, i+1), ip: nodeIP(index, i)})
	}
	s.queue = &queue{w: w, host: w.net.host(s.name+"-queue", queueIP(index)), lmtp: w.sc.LMTP, targets: s.addresses(encryptPort)}
	return s
}

// addresses returns the addresses of the site's relays.
func (s *site) addresses(port string) (list []string) {
	for _, n := range s.nodes {
		list = append(list, n.ip+port)
	}
	return list
}

// engine opens the site's store as a process does. Unless the store is a real file,
// around is called around each operation.
func (s *site) engine(ctx context.Context, around func(string, func() error) error) (keystore.Engine, error) {
	if s.world.sc.SQLite {
		return sqlite.Open(ctx, filepath.Join(s.world.dir, s.name, "keys.db"), sqlite.Options{})
	}
	return s.records.Load().Open(around), nil
}

// tooSlow is how slow a store may be before a caller no longer waits for it: what the
// caller does may take several calls.
const tooSlow = 20 * time.Second

// failed returns the error of a store that can't do something.
func failed(op string) error { return fmt.Errorf("%w: simulated: %s", kmclient.ErrStore, op) }

// disk makes an operation of the store meet the troubles of its disk. A process that has
// died by then does nothing.
func (s *site) disk(process, op string, isDead func() bool, do func() error) error {
	w := s.world
	dice := w.diceNow("store", process, op)
	troubled := func(kind string) bool { return dice.Float64() < w.trouble(kind, s.name) }
	if troubled("store-slow") {
		took := between(dice, time.Second, 3*time.Minute)
		if took > tooSlow {
			w.ledger.storeFailed(s)
		}
		time.Sleep(took)
	}
	if op == "apply" {
		time.Sleep(between(dice, time.Millisecond, 20*time.Millisecond))
	}
	if isDead() {
		return failed(op)
	}
	if troubled("store-fail") || op == "apply" && troubled("store-full") {
		w.ledger.storeFailed(s)
		return failed(op)
	}
	err := do()
	if op == "apply" && troubled("store-unsure") {
		w.ledger.storeFailed(s)
		err = failed(op)
	}
	return err
}

// has reports whether the store, seen from outside, has a record of a kind with an ID. It
// looks only into stores in memory, and believes everything of a real file.
func (s *site) has(kind, id string) bool {
	return s.world.sc.SQLite || s.records.Load().Has(kind, "kme", s.sae, id)
}

// storeKeys is a keystore.StoreKeySource.
func (s *site) storeKeys(bool) ([]keystore.StoreKey, error) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return slices.Clone(s.keys), nil
}

// linkTo returns the QKD link to the site of an SAE, nil if there is none.
func (s *site) linkTo(sae string) (*qkdLink, int) {
	l := s.links[sae]
	if l == nil {
		return nil, 0
	}
	return l, l.side(s)
}

// start starts everything at the site.
func (s *site) start() {
	w := s.world
	mta := &mailServer{w: w, host: w.net.host(s.name+"-mta", mtaIP(s.index)), watch: s.watch, take: s.sendOn}
	mta.start(mtaIP(s.index) + ":25")
	s.wire = &queue{w: w, host: mta.host, lmtp: w.sc.LMTPHop, onTheWire: w.attacker.onTheWire}
	box := &mailServer{w: w, host: w.net.host(s.name+"-box", boxIP(s.index)), lmtp: w.sc.LMTPHop, take: func(t *taken) { s.world.ledger.arrived(s, t) }}
	box.start(boxIP(s.index) + ":25")

	listener, err := w.net.host(s.name+"-kme", kmeIP(s.index)).Listen(context.Background(), "tcp", kmeIP(s.index)+":443")
	if err != nil {
		panic(err)
	}
	s.kme = &http.Server{Handler: &kmeServer{site: s}, ErrorLog: log.New(io.Discard, "", 0), IdleTimeout: 2 * time.Minute}
	go func() { _ = s.kme.Serve(tls.NewListener(listener, w.kmeTLS)) }()
	for _, n := range s.nodes {
		n.start()
	}
}

// watch returns what notes how much the site's MTA gets of a message: from here on
// everyone may see it.
func (s *site) watch(rcpts []string) func(data []byte) {
	c := s.world.ledger.begins(s, rcpts)
	return func(data []byte) { s.world.ledger.crossed(c, data) }
}

// sendOn queues an encrypted message for the site of its recipients.
func (s *site) sendOn(t *taken) {
	m := s.world.ledger.mailOf(t.rcpts[0])
	if m == nil {
		s.world.violate("content", "the MTA of site %s gets mail for %s, but nobody wrote to that address", s.name, t.rcpts[0])
		return
	}
	times := s.world.ledger.sealed(s, m, t)
	received := fmt.Sprintf("Received: from relay by %s-mta.example;\r\n\t%s\r\n", s.name, time.Now().Format(time.RFC1123Z))
	s.wire.add(&entry{
		mail: m, name: fmt.Sprintf("%v for %v, sealed %d times", m, t.rcpts, times), from: t.from,
		data: append([]byte(received), t.data...), left: t.rcpts, targets: m.to.addresses(decryptPort),
	})
}

// config returns the configuration of the site's relays.
func (s *site) config(ip, name string) *config.Config {
	w := s.world
	c := config.Default()
	c.Hostname = name + ".example"
	c.Site.Domains = []string{s.name + ".example", "*." + s.name + ".example"}
	c.KM.URL, c.KM.SAE = "etsi014:https://"+kmeIP(s.index), s.sae
	if s.hybrid.Load() {
		c.Site.HybridKeys = []string{w.pki.file(s.name + ".private")}
	}
	s.addServers(c, ip)
	for _, other := range w.sites {
		if other != s {
			s.addPeer(c, other)
		}
	}
	c.Rules = append(c.Rules, config.Rule{Domain: "default", Peer: c.Peers[0].Name, Suite: "aes-256-gcm"})
	return c
}

// addServers adds a relay's listeners and next hops to its configuration.
func (s *site) addServers(c *config.Config, ip string) {
	sc := s.world.sc
	anywhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	out, in := config.SMTP, config.SMTP
	if sc.LMTP {
		out = config.LMTP
	}
	if sc.LMTPHop {
		in = config.LMTP
	}
	c.Listeners = []config.Listener{
		{Name: "out", Direction: mailer.DirectionEncrypt, Protocol: out, Address: ip + encryptPort, NextHop: "mta", Networks: anywhere, TLS: config.TLSOff},
		{Name: "in", Direction: mailer.DirectionDecrypt, Protocol: in, Address: ip + decryptPort, NextHop: "box", Networks: anywhere, TLS: config.TLSOff},
	}
	c.NextHops = []config.NextHop{
		{Name: "mta", Address: mtaIP(s.index) + ":25", Protocol: config.SMTP, TLS: config.TLSOff, MaxConnections: 20, MaxIdle: 4},
		{Name: "box", Address: boxIP(s.index) + ":25", Protocol: in, TLS: config.TLSOff, MaxConnections: 20, MaxIdle: 4},
	}
	if s.changed.Load() {
		c.NextHops[0].MaxIdle = 0
	}
}

// addPeer adds another site to a configuration, with a rule for each suite.
func (s *site) addPeer(c *config.Config, other *site) {
	w := s.world
	domain := other.name + ".example"
	p := config.Peer{Name: other.name, SAE: other.sae, Domains: []string{domain, "*." + domain}, Inbound: "required"}
	if other.announced.Load() {
		p.HybridKey = w.pki.file(other.name + ".public")
		if !w.sc.Hybrid { // what comes from there is not hybrid
			p.Suites = []string{"aes-256-gcm", "otp", "aes-256-gcm+x-wing", "otp+x-wing"}
		}
	}
	mode := mailer.Required
	if w.sc.Opportunistic {
		p.Inbound, mode = "optional", mailer.Opportunistic
	}
	c.Peers = append(c.Peers, p)
	c.Rules = append(c.Rules,
		config.Rule{Domain: domain, Peer: other.name, Suite: "aes-256-gcm"},
		config.Rule{Domain: "pad." + domain, Peer: other.name, Suite: "otp"},
		config.Rule{Domain: "auto." + domain, Peer: other.name, Suite: "auto", PadLimit: 4096},
		config.Rule{Domain: "maybe." + domain, Peer: other.name, Suite: "aes-256-gcm", Encrypt: mode},
	)
}

// kmeEvent restarts the site's KME, or takes it back to a backup.
func (s *site) kmeEvent(e event) {
	for _, sae := range slices.Sorted(maps.Keys(s.links)) {
		l, side := s.linkTo(sae)
		if e.Kind == "kme-restart" {
			l.restart(side, e.N)
		} else {
			l.restore(side, e.N)
		}
	}
}
