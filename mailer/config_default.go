package mailer

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// DefaultConfig returns a configuration with all defaults, and without
// listeners, next hops, key manager, peers and rules: it can't be run as it is.
func DefaultConfig() *Config {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	return &Config{
		Hostname: hostname,
		KM: KMConfig{
			RequestTimeout: 30 * time.Second,
			Timeout:        time.Minute,
			KeyGrace:       DefaultKeyGrace,
			Pool:           true,
		},
		Store:      StoreConfig{Close: keystore.After(7 * 24 * time.Hour), Tombstones: 60 * 24 * time.Hour},
		NullSender: NullSenderConfig{Inbound: NullSenderRequired},
		Headers:    HeadersConfig{Policy: cipher.HeadersBaseline},
		Limits: LimitsConfig{
			MessageSize:          100 << 20,
			LineLength:           1 << 20,
			HeaderSize:           256 << 10,
			Received:             50,
			Recipients:           1000,
			Connections:          500,
			ConnectionsPerClient: 50,
		},
		Timeouts: TimeoutsConfig{
			Idle:        5 * time.Minute,
			DataIdle:    3 * time.Minute,
			MinRate:     128,
			Connect:     30 * time.Second,
			Command:     5 * time.Minute,
			AfterDot:    9 * time.Minute,
			NextHopIdle: time.Minute,
			Shutdown:    30 * time.Second,
		},
		Log: LogConfig{MessageID: LogMessageIDClear, Format: LogText},
	}
}

// A defaulter is a table of an array of tables, whose entries begin with
// defaults as well.
type defaulter interface{ setDefaults() }

func (l *ListenerConfig) setDefaults() {
	*l = ListenerConfig{Protocol: ProtocolSMTP, TLS: TLSOff, Networks: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	}}
}

func (n *NextHopConfig) setDefaults() {
	*n = NextHopConfig{Protocol: ProtocolSMTP, TLS: TLSOpportunistic, MaxConnections: 500, MaxIdle: 20}
}

func (r *RuleConfig) setDefaults() {
	*r = RuleConfig{Suite: string(cipher.SuiteAuto)}
}

// QuickOptions are enough for a relay of one direction with one peer.
type QuickOptions struct {
	Direction Direction
	Listen    string   // HOST:PORT or unix:/PATH; "lmtp:" before it for LMTP
	NextHop   string   // likewise
	KM        KMConfig // URL, SAE, CA, Cert, Key and KMEID; the others have their defaults
	Peer      string   // the peer's SAE ID; "": none
}

// QuickConfig returns the configuration of a relay that has no file. To encrypt,
// all mail is for the peer, and leaves encrypted or not at all. To decrypt,
// the peer's mail is decrypted and all other passes. Only loopback clients may
// connect. The error is what [Config.Check] finds.
func QuickConfig(o QuickOptions) (*Config, error) {
	c := DefaultConfig()
	c.KM.URL, c.KM.SAE, c.KM.CA, c.KM.Cert, c.KM.Key, c.KM.KMEID = o.KM.URL, o.KM.SAE, o.KM.CA, o.KM.Cert, o.KM.Key, o.KM.KMEID

	var l ListenerConfig
	l.setDefaults()
	l.Name, l.Direction, l.NextHop = string(o.Direction), o.Direction, "next"
	l.Protocol, l.Address = quickAddress(o.Listen)
	c.Listeners = []ListenerConfig{l}

	var n NextHopConfig
	n.setDefaults()
	n.Name = "next"
	n.Protocol, n.Address = quickAddress(o.NextHop)
	c.NextHops = []NextHopConfig{n}

	c.Peers = []PeerConfig{{Name: "peer", SAE: o.Peer}}
	if o.Direction == DirectionEncrypt {
		c.Rules = []RuleConfig{{Domain: defaultDomain, Peer: "peer", Encrypt: Required, Suite: string(cipher.SuiteAuto)}}
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("quick start: %w", err)
	}
	return c, nil
}

// quickAddress takes the protocol off an address.
func quickAddress(s string) (Protocol, string) {
	if address, ok := strings.CutPrefix(s, "lmtp:"); ok {
		return ProtocolLMTP, address
	}
	return ProtocolSMTP, strings.TrimPrefix(s, "smtp:")
}
