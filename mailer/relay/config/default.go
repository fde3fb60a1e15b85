package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
)

// Default returns a configuration with all defaults but no listeners, next hops, key
// manager, peers or rules: a relay can't run with it as it is.
func Default() *Config {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	c := &Config{
		Hostname: hostname,
		KM: KM{
			RequestTimeout: 30 * time.Second,
			Timeout:        time.Minute,
			KeyGrace:       mailer.DefaultKeyGrace,
			Pool:           true,
		},
		Store:   Store{Close: keystore.After(7 * 24 * time.Hour), Tombstones: 60 * 24 * time.Hour},
		Headers: Headers{Policy: cipher.HeadersBaseline},
		Limits: Limits{
			MessageSize:          100 << 20,
			LineLength:           1 << 20,
			HeaderSize:           256 << 10,
			Received:             50,
			Recipients:           1000,
			Connections:          500,
			ConnectionsPerClient: 50,
		},
		Timeouts: Timeouts{
			Idle:        5 * time.Minute,
			DataIdle:    3 * time.Minute,
			MinRate:     128,
			Connect:     30 * time.Second,
			Command:     5 * time.Minute,
			AfterDot:    9 * time.Minute,
			NextHopIdle: time.Minute,
			Shutdown:    30 * time.Second,
		},
		Log: Log{MessageID: idClear, Format: formatText},
	}
	c.NullSender.Inbound = inboundRequired
	return c
}

// A defaulter is an entry of an array of tables that has defaults.
type defaulter interface{ setDefaults() }

func (l *Listener) setDefaults() {
	*l = Listener{Protocol: SMTP, TLS: TLSOff, Networks: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	}}
}

func (n *NextHop) setDefaults() {
	*n = NextHop{Protocol: SMTP, TLS: TLSOpportunistic, MaxConnections: 500, MaxIdle: 20}
}

func (p *Peer) setDefaults() { *p = Peer{Inbound: inboundRequired, Recipients: recipientsSealed} }

func (r *Rule) setDefaults() {
	*r = Rule{Suite: string(cipher.SuiteAuto)}
}

// QuickOptions are enough for a relay with one direction and one peer.
type QuickOptions struct {
	Direction mailer.Direction
	Listen    string // HOST:PORT or unix:/PATH; "lmtp:" before it for LMTP
	NextHop   string // likewise
	KM        KM     // URL, SAE, CA, Cert, Key and KMEID; the others have their defaults
	Peer      string // the peer's SAE ID; "": none
}

// Quick returns the configuration of a relay without a file. If it encrypts, all mail
// is for the peer, and leaves encrypted or not at all. If it decrypts, the peer's mail
// is decrypted and all other mail passes. Only loopback clients may connect. The error
// is what [Config.Check] finds.
func Quick(o QuickOptions) (*Config, error) {
	c := Default()
	c.KM.URL, c.KM.SAE, c.KM.CA, c.KM.Cert, c.KM.Key, c.KM.KMEID = o.KM.URL, o.KM.SAE, o.KM.CA, o.KM.Cert, o.KM.Key, o.KM.KMEID

	var l Listener
	l.setDefaults()
	l.Name, l.Direction, l.NextHop = string(o.Direction), o.Direction, "next"
	l.Protocol, l.Address = quickAddress(o.Listen)
	c.Listeners = []Listener{l}

	var n NextHop
	n.setDefaults()
	n.Name = "next"
	n.Protocol, n.Address = quickAddress(o.NextHop)
	c.NextHops = []NextHop{n}

	c.Peers = []Peer{{Inbound: inboundRequired, Name: "peer", SAE: o.Peer}}
	if o.Direction == mailer.DirectionEncrypt {
		c.Rules = []Rule{{Domain: address.Default, Peer: "peer", Encrypt: mailer.Required, Suite: string(cipher.SuiteAuto)}}
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("quick start: %w", err)
	}
	return c, nil
}

// quickAddress takes the protocol off an address.
func quickAddress(s string) (Protocol, string) {
	if addr, ok := strings.CutPrefix(s, "lmtp:"); ok {
		return LMTP, addr
	}
	return SMTP, strings.TrimPrefix(s, "smtp:")
}
