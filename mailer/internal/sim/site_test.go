package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

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

	records *memory.Records
	keys    []keystore.StoreKey // the last one is in use
	closing keystore.Policy
	links   map[string]*qkdLink // by the other site's SAE
	kme     *http.Server

	changed bool // the configuration was changed
}

func newSite(w *world, index int) *site {
	s := &site{
		world: w, index: index, name: siteNames[index], sae: "SAE_" + siteNames[index], records: memory.New(),
		keys: []keystore.StoreKey{keystore.NewStoreKey()}, links: map[string]*qkdLink{}, closing: w.sc.closing(),
	}
	if err := w.pki.copyCert(s.sae, s.certificate()); err != nil {
		panic(err)
	}
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
	return s.records.Open(around), nil
}

// has reports whether the store, seen from outside, has a record of a kind with an ID. It
// looks only into stores in memory, and believes everything of a real file.
func (s *site) has(kind, id string) bool {
	return s.world.sc.SQLite || s.records.Has(kind, "kme", s.sae, id)
}

// storeKeys is a keystore.StoreKeySource.
func (s *site) storeKeys(bool) ([]keystore.StoreKey, error) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return append([]keystore.StoreKey(nil), s.keys...), nil
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
func (s *site) watch() func(data []byte) {
	c := s.world.ledger.begins(s)
	return func(data []byte) { s.world.ledger.crossed(c, data) }
}

// sendOn queues an encrypted message for the site of its recipients.
func (s *site) sendOn(t *taken) {
	m := s.world.ledger.mailOf(t.rcpts[0])
	if m == nil {
		s.world.violate("content", "the MTA of site %s gets mail for %s, but nobody wrote to that address", s.name, t.rcpts[0])
		return
	}
	s.world.ledger.sealed(s, m, t)
	received := fmt.Sprintf("Received: from relay by %s-mta.example;\r\n\t%s\r\n", s.name, time.Now().Format(time.RFC1123Z))
	s.wire.add(&entry{
		mail: m, name: fmt.Sprintf("%s/%d of %s", s.name, s.world.ledger.number(), m), from: t.from,
		data: append([]byte(received), t.data...), left: t.rcpts, targets: m.to.addresses(decryptPort),
	})
}

// config returns the configuration of the site's relays.
func (s *site) config(ip, name string) *config.Config {
	w, sc := s.world, s.world.sc
	c := config.Default()
	c.Hostname = name + ".example"
	c.Site.Domains = []string{s.name + ".example", "*." + s.name + ".example"}
	c.KM.URL, c.KM.SAE = "etsi014:https://"+kmeIP(s.index), s.sae
	anywhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	inbound, outbound := config.SMTP, config.SMTP
	if sc.LMTP {
		outbound = config.LMTP
	}
	hop := config.SMTP
	if sc.LMTPHop {
		inbound, hop = config.LMTP, config.LMTP
	}
	c.Listeners = []config.Listener{
		{Name: "out", Direction: mailer.DirectionEncrypt, Protocol: outbound, Address: ip + encryptPort, NextHop: "mta", Networks: anywhere, TLS: config.TLSOff},
		{Name: "in", Direction: mailer.DirectionDecrypt, Protocol: inbound, Address: ip + decryptPort, NextHop: "box", Networks: anywhere, TLS: config.TLSOff},
	}
	c.NextHops = []config.NextHop{
		{Name: "mta", Address: mtaIP(s.index) + ":25", Protocol: config.SMTP, TLS: config.TLSOff, MaxConnections: 20, MaxIdle: 4},
		{Name: "box", Address: boxIP(s.index) + ":25", Protocol: hop, TLS: config.TLSOff, MaxConnections: 20, MaxIdle: 4},
	}
	if s.changed {
		c.NextHops[0].MaxIdle = 0
	}
	for _, other := range w.sites {
		if other == s {
			continue
		}
		domain := other.name + ".example"
		if sc.Hybrid {
			c.Site.HybridKeys = []string{w.pki.file(s.name + ".private")}
		}
		p := config.Peer{Name: other.name, SAE: other.sae, Domains: []string{domain, "*." + domain}, Inbound: "required"}
		if sc.Hybrid {
			p.HybridKey = w.pki.file(other.name + ".public")
		}
		mode := mailer.Required
		if sc.Opportunistic {
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
	c.Rules = append(c.Rules, config.Rule{Domain: "default", Peer: c.Peers[0].Name, Suite: "aes-256-gcm"})
	return c
}

// reload makes the site's relays read a changed configuration.
func (s *site) reload() {
	s.world.mu.Lock()
	s.changed = !s.changed
	s.world.mu.Unlock()
	for _, n := range s.nodes {
		n.reload()
	}
}

// rotate changes the store key, as an operator does with qkdmail store rotate.
func (s *site) rotate() {
	key := keystore.NewStoreKey()
	s.world.mu.Lock()
	s.keys = append(s.keys, key)
	s.world.mu.Unlock()
	ctx := context.Background()
	for {
		err := s.rotateTo(ctx, key)
		if err == nil {
			return
		}
		s.world.tracef("the store key of site %s can't be changed yet: %v", s.name, err)
		time.Sleep(time.Minute)
	}
}

func (s *site) rotateTo(ctx context.Context, key keystore.StoreKey) error {
	engine, err := s.engine(ctx, nil)
	if err != nil {
		return err
	}
	store, err := keystore.Open(ctx, nil, keystore.Options{Engine: engine, Key: s.storeKeys, SAE: s.sae, KM: "kme"})
	if err != nil {
		return err
	}
	return errors.Join(store.Rotate(ctx, key), store.Close(ctx))
}

// restore makes a backup of the store, and puts it in the store's place after a while:
// what happened in between is forgotten.
func (s *site) restore(after time.Duration) {
	if s.world.sc.SQLite {
		return
	}
	backup, since := s.records.Copy(), time.Now()
	time.Sleep(after)
	for _, n := range s.nodes {
		n.stop()
	}
	s.records = backup
	s.world.ledger.setBack(s, since)
	for _, n := range s.nodes {
		n.start()
	}
}

// certificate returns the path of the site's client certificate, without ".crt" and
// ".key".
func (s *site) certificate() string { return filepath.Join(s.world.dir, s.sae) }

// renew replaces the client certificate; relays are not told.
func (s *site) renew() {
	if err := s.world.pki.copyCert(s.sae+renewed, s.certificate()); err != nil {
		panic(err)
	}
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
