package relay_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// What the cells of the tables in docs/operations.md may say.
const (
	none, set    = "not set", "set"
	plain        = "a suite without X-Wing"
	hybrid       = "a suite with X-Wing"
	plainOrAuto  = plain + ", or auto"
	doesNotStart = "the relay does not start"
	restored     = "restored"
)

// hybridTables returns the rows of the tables in "Hybrid: what happens": what leaves, by
// two cells, and what becomes of arriving mail, by three.
func hybridTables(t *testing.T) (leaves map[[2]string]string, arrives map[[3]string][3]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Hybrid: what happens\n")
	section, _, _ = strings.Cut(section, "\n## ")
	leaves, arrives = map[[2]string]string{}, map[[3]string][3]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		cells[0] = strings.TrimPrefix(cells[0], "| ")
		cells[len(cells)-1] = strings.TrimSuffix(cells[len(cells)-1], " |")
		switch {
		case cells[0] != none && cells[0] != set: // a head, or text
		case len(cells) == 3:
			leaves[[2]string(cells)] = cells[2]
		case len(cells) == 6:
			arrives[[3]string(cells)] = [3]string(cells[3:])
		default:
			t.Fatalf("a row with %d cells: %s", len(cells), line)
		}
	}
	if len(leaves) != 2*2 || len(arrives) != 2*4*2 {
		t.Fatalf("%d rows of what leaves and %d of what arrives, want every combination once", len(leaves), len(arrives))
	}
	return leaves, arrives
}

// A hybridSite is how a site is set up for its peer.
type hybridSite struct {
	peerKey, suites, ourKeys string // cells of the tables
	rule                     cipher.Suite
	another                  bool // the peer's key is a key that the peer does not have
}

// hybridSites returns every combination.
func hybridSites() (all []hybridSite) {
	for _, suites := range []string{none, "without X-Wing", "with X-Wing", "both"} {
		for _, ours := range []string{none, set} {
			for _, rule := range append(cipher.Suites(), cipher.SuiteAuto) {
				all = append(all, hybridSite{none, suites, ours, rule, false}, hybridSite{set, suites, ours, rule, false}, hybridSite{set, suites, ours, rule, true})
			}
		}
	}
	return all
}

// hybridKeys are the keys of this test.
type hybridKeys struct{ ours, peers, another *mailtest.HybridKey }

// config sets up a site.
func (s hybridSite) config(keys hybridKeys) func(*config.Config) {
	return func(c *config.Config) {
		switch {
		case s.another:
			keys.another.AsPeers(c)
		case s.peerKey == set:
			keys.peers.AsPeers(c)
		}
		if s.ourKeys == set {
			keys.ours.AsOurs(c)
		}
		c.Peers[0].Suites = map[string][]string{
			"without X-Wing": {"otp", "aes-256-gcm"}, "with X-Wing": {"otp+x-wing", "aes-256-gcm+x-wing"},
			"both": {"otp", "aes-256-gcm", "otp+x-wing", "aes-256-gcm+x-wing"},
		}[s.suites]
		for i := range c.Rules {
			if c.Rules[i].Domain == "b.example" {
				c.Rules[i].Suite = string(s.rule)
			}
		}
	}
}

// start starts a relay of the site. It returns nil if the configuration is refused, which
// must be what the table says.
func (s hybridSite) start(t *testing.T, km *mailtest.KM, d mailer.Direction, hop *mailtest.Hop, keys hybridKeys, starts bool) *mailtest.Relay {
	t.Helper()
	cfg := mailtest.Config(d, hop.Addr())
	s.config(keys)(cfg)
	cfg.KM.RequestTimeout, cfg.KM.KeyGrace = time.Second, time.Hour // which Check wants
	err := cfg.Check()
	if err == nil {
		_, err = relay.New(cfg, relay.WithoutStore(km), nil)
	}
	if (err == nil) != starts {
		t.Fatalf("%+v, to %s: %v, but the table says that it starts: %v", s, d, err, starts)
	}
	if err != nil {
		return nil
	}
	return mailtest.StartRelayWith(t, km, d, hop.Addr(), s.config(keys))
}

// TestHybridCombinations tries each row of the tables in docs/operations.md, and every
// site that can be set up with every other. The other settings of a site change nothing.
func TestHybridCombinations(t *testing.T) {
	mailtest.NoLeaks(t)
	leaves, arrives := hybridTables(t)
	km, out, in := mailtest.NewKM(), mailtest.StartHop(t), mailtest.StartHop(t)
	a, b, another := mailtest.NewHybridKey(t), mailtest.NewHybridKey(t), mailtest.NewHybridKey(t)
	type client struct {
		hybridSite
		*mailtest.Client
	}
	var receivers []client
	for _, s := range hybridSites() {
		if s.rule != cipher.SuiteAuto || s.another {
			continue // a receiver has no rule, and does not care which key its peer has
		}
		starts := arrives[[3]string{s.peerKey, s.suites, s.ourKeys}][0] != doesNotStart
		if r := s.start(t, km, mailer.DirectionDecrypt, in, hybridKeys{b, a, another}, starts); r != nil {
			receivers = append(receivers, client{s, mailtest.Connect(t, r)})
		}
	}
	tried := map[string]bool{}
	for _, s := range hybridSites() {
		asked := plainOrAuto
		if s.rule.Hybrid() {
			asked = hybrid
		}
		suite := leaves[[2]string{s.peerKey, asked}]
		r := s.start(t, km, mailer.DirectionEncrypt, out, hybridKeys{a, b, another}, suite != doesNotStart)
		if r == nil {
			continue
		}
		out.Forget()
		c := mailtest.Connect(t, r)
		c.Want("250", c.Attempt(mailtest.Text))
		_ = r.Stop()
		sealed := out.One().Data
		got := mailtest.Decrypt(t, km, sealed, b, another).Info().Suite
		if (suite == hybrid) != got.Hybrid() || s.rule != cipher.SuiteAuto && got.Plain() != s.rule.Plain() {
			t.Errorf("%+v: %s leaves, and the table says %s", s, got, suite)
		}
		column := slices.Index([]bool{!got.Hybrid(), got.Hybrid() && !s.another, s.another}, true)
		for _, r := range receivers {
			cell := arrives[[3]string{r.peerKey, r.suites, r.ourKeys}][column]
			if cell == "-" { // the receiver has no key, so this is some other key
				cell = arrives[[3]string{r.peerKey, r.suites, r.ourKeys}][2]
			}
			in.Forget()
			_, before := km.Count()
			reply := r.Attempt(sealed)
			want := cell
			if cell == restored {
				want = "250"
			}
			if !strings.HasPrefix(reply, want) || cell == restored && !strings.HasSuffix(in.One().Data, mailtest.Text) {
				t.Errorf("from %+v to %+v, under %s: %s, and the table says %s", s, r.hybridSite, got, reply, cell)
			}
			if _, now := km.Count(); cell != restored && (now != before || len(in.Got()) > 0) {
				t.Errorf("from %+v to %+v: a key was asked for, or the message delivered", s, r.hybridSite)
			}
			tried[fmt.Sprint(r.peerKey, r.suites, r.ourKeys, column)] = true
		}
	}
	if n := len(receivers) * 3; len(tried) != n {
		t.Errorf("%d combinations were tried, want %d", len(tried), n)
	}
}
