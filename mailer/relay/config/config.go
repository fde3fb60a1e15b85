package config

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
)

// Config is the configuration of a relay, usually read from one TOML file with
// [Load]. docs/relay.toml has every key with its meaning and default.
//
// In the tags below, "size" marks a number of bytes that may be written with a unit (64,
// "256 KiB"), and "file" a path relative to the folder of the configuration file.
// "store", "secret" and "key" mark texts that may be, or contain, such a path: see Store
// and Peer.HybridKey.
type Config struct {
	// Hostname is the relay's name in greetings, EHLO and Received; default the host's.
	Hostname string `toml:"hostname"`

	// Site is about the relay's own site.
	Site struct {
		// Domains are those of this site's users, "a.example" or "*.a.example". A
		// peer may not send mail in their name. Default none.
		Domains []string `toml:"domains"`
		// HybridKeys are the files or credentials with this site's X-Wing private keys,
		// written like Peer.HybridKey. Each key opens the messages for it, so that a new
		// key can replace an old one. Default none.
		HybridKeys []string `toml:"hybrid_keys,key"`
	} `toml:"site"`

	Listeners []Listener `toml:"listener"`
	NextHops  []NextHop  `toml:"next_hop"`
	KM        KM         `toml:"km"`
	Store     Store      `toml:"store"`
	Peers     []Peer     `toml:"peer"`
	Rules     []Rule     `toml:"rule"`
	Triggers  []Trigger  `toml:"trigger"`

	// NullSender is about reports, which have the null sender, MAIL FROM:<>. Those that
	// leave follow the same rules as all other mail.
	NullSender struct {
		// Inbound is what happens to a report that arrives in clear and whose header From
		// is in the domain of a peer that has to encrypt: "required" (default) refuses it
		// like other mail, "accept" lets it pass. With "accept", anyone can send plain
		// mail in the name of such a domain by sending it as a report.
		Inbound string `toml:"inbound"`
	} `toml:"null_sender"`

	Headers  Headers  `toml:"headers"`
	Limits   Limits   `toml:"limits"`
	Timeouts Timeouts `toml:"timeouts"`
	Log      Log      `toml:"log"`
	Admin    Admin    `toml:"admin"`

	file  string         // that it was read from; ""
	lines map[string]int // the line of each key, such as "listener[0].name"
}

// A Protocol is how mail is handed over.
type Protocol string

const (
	SMTP Protocol = "smtp"
	LMTP Protocol = "lmtp" // with an answer for each recipient
)

// TLSMode says whether a connection is encrypted with STARTTLS.
type TLSMode string

const (
	TLSOff           TLSMode = "off"           // not offered, not used
	TLSOpportunistic TLSMode = "opportunistic" // where the other side can; its certificate is not verified
	TLSRequired      TLSMode = "required"      // no mail without; a next hop's certificate is verified
)

// A Listener is an address at which the relay takes mail.
type Listener struct {
	Name      string           `toml:"name"`
	Direction mailer.Direction `toml:"direction"`
	Protocol  Protocol         `toml:"protocol"` // default smtp
	Address   string           `toml:"address"`  // HOST:PORT or unix:/PATH
	NextHop   string           `toml:"next_hop"` // name of the next hop

	// Networks are the clients that may connect; default loopback. At a unix:
	// address the permissions of the file decide.
	Networks []netip.Prefix `toml:"networks"`
	// XForward are the clients that may name their own client with XFORWARD; default
	// none.
	XForward []netip.Prefix `toml:"xforward"`

	TLS     TLSMode `toml:"tls"` // default off
	TLSCert string  `toml:"tls_cert,file"`
	TLSKey  string  `toml:"tls_key,file"`
	// AuthFile has the users for AUTH PLAIN, see [Listener.Users]. With it every
	// client must authenticate, over TLS, and must be in Networks as well.
	AuthFile string `toml:"auth_file,file"`
}

// A NextHop is a server that the relay hands mail to.
type NextHop struct {
	Name     string   `toml:"name"`
	Address  string   `toml:"address"`  // HOST:PORT or unix:/PATH
	Protocol Protocol `toml:"protocol"` // default smtp

	TLS     TLSMode `toml:"tls"`         // default opportunistic
	TLSCA   string  `toml:"tls_ca,file"` // PEM file of CAs to trust instead of the system's
	TLSName string  `toml:"tls_name"`    // name in the certificate; default the host of Address

	AuthUser         string `toml:"auth_user"`               // only with TLSRequired
	AuthPasswordFile string `toml:"auth_password_file,file"` // for AUTH PLAIN
	AuthTokenFile    string `toml:"auth_token_file,file"`    // for OAuth 2.0, instead of a password

	MaxConnections int `toml:"max_connections"` // at one time; default 500
	MaxIdle        int `toml:"max_idle"`        // of those, kept open for the next message; default 20
	// MaxMessages is how many messages go through one connection. 0, the default, means
	// 10 if the greeting names Exim, which only queues what comes after the tenth
	// (smtp_accept_queue_per_connection), and 1000 otherwise.
	MaxMessages int `toml:"max_messages"`
}

// KM names the key manager.
type KM struct {
	// URL and the five fields after it are what package kmclient/open takes. SAE is our
	// own SAE ID, "" for none.
	URL   string `toml:"url"`
	SAE   string `toml:"sae"`
	CA    string `toml:"ca,file"`
	Cert  string `toml:"cert,file"`
	Key   string `toml:"key,file"`
	KMEID string `toml:"kme_id"`

	RequestTimeout time.Duration `toml:"request_timeout"` // of one request; default 30 s
	Timeout        time.Duration `toml:"timeout"`         // how long a message waits for a key, failover included; default 60 s
	KeyGrace       time.Duration `toml:"key_grace"`       // how long the key of an arriving message may be missing; default mailer.DefaultKeyGrace

	// Pool says whether sending keys are fetched ahead; default true. The settings after
	// it are those of [keypool.Options], where 0 is the default.
	Pool       bool          `toml:"pool"`
	PoolBatch  int           `toml:"pool_batch"`   // keys per fetch
	PoolMax    int           `toml:"pool_max"`     // keys for one peer
	PoolMaxAge time.Duration `toml:"pool_max_age"` // of a key that waits
}

// PoolOptions returns what [keypool.New] takes.
func (c *KM) PoolOptions() keypool.Options {
	return keypool.Options{Batch: c.PoolBatch, Max: c.PoolMax, MaxAge: c.PoolMaxAge, Timeout: c.Timeout}
}

// StoreNone is the Store.Path for keeping no keys.
const StoreNone = "none"

// Store says where keys are kept until their messages are delivered, and for how
// long: see package [keystore].
type Store struct {
	// Path is an SQLite file, the URL of a PostgreSQL database, or StoreNone. "": a file
	// in the state directory, if the key manager deletes keys when it hands them out.
	Path string `toml:"path,store"`
	// Key seals what is stored: "file:PATH", "credential:NAME" or "env:NAME". "": a
	// file beside the SQLite file, made with it.
	Key string `toml:"key,secret"`

	Close       keystore.Policy `toml:"close"`       // default after:7d
	Tombstones  time.Duration   `toml:"tombstones"`  // how long a closed key is remembered; default 60 days
	Undelivered time.Duration   `toml:"undelivered"` // how long a key is kept whose message does not come; 0, the default: for good
}

// A Peer is a site that mail is exchanged with.
type Peer struct {
	Name string `toml:"name"`
	// SAE is the peer's SAE ID; "" or "-": none, for the mock and QMail REST, which do
	// not need it. At most one peer can have none.
	SAE string `toml:"sae"`
	// Domains are those of the peer's users, "b.example" or "*.b.example". They say who
	// may send as whom, and whose plain mail Inbound applies to.
	Domains []string `toml:"domains"`
	// Inbound is what happens to plain mail from these domains: "required" or "" refuses
	// it, "optional" lets it pass. Default required.
	Inbound string `toml:"inbound"`
	// Suites are those accepted from the peer, by their names in any case; default all,
	// but only hybrid ones if there is a HybridKey.
	Suites []string `toml:"suites"`
	// HybridKey is the file of the peer's X-Wing public key, "PATH" or "file:PATH", or a
	// credential of systemd, "credential:NAME". With it everything encrypted for the peer
	// is hybrid. "": none.
	HybridKey string `toml:"hybrid_key,key"`
	// Recipients says who may get a message from the peer: "sealed" or "": only those it
	// is sealed for; "any": anyone. Default sealed.
	Recipients string `toml:"recipients"`
}

// SAEID returns the peer's SAE ID, "" for none.
func (p *Peer) SAEID() string {
	if p.SAE == "-" {
		return ""
	}
	return p.SAE
}

// A Rule says how mail to a domain leaves.
type Rule struct {
	// Domain is "b.example", "*.b.example" for the domains beneath it at any
	// depth, or "default".
	Domain   string      `toml:"domain"`
	Peer     string      `toml:"peer"`           // name of the peer
	Encrypt  mailer.Mode `toml:"encrypt"`        // default required
	Suite    string      `toml:"suite"`          // auto or a suite's name, in any case; default auto
	PadLimit int         `toml:"pad_limit,size"` // largest message, in bytes, that auto encrypts with OTP; 0: cipher.DefaultPadLimit
}

// A Trigger raises the protection of marked messages above what their rules say.
type Trigger struct {
	Name string `toml:"name"`
	// From are envelope senders: addresses, or domains as in a Rule. Default all.
	From []string `toml:"from"`
	// Header is the name of a header field, and Pattern an RE2 expression to be found in
	// its decoded value; default any value.
	Header  string `toml:"header"`
	Pattern string `toml:"pattern"`

	Encrypt string `toml:"encrypt"` // required, or "" to leave it as the rule says
	Suite   string `toml:"suite"`   // otp, or "" to leave it as the rule says
}

// Headers says what stays readable of an encrypted message.
type Headers struct {
	Policy cipher.HeaderPolicy `toml:"policy"` // default hcp_baseline
	Note   *string             `toml:"note"`   // of at most 8 KiB; nil: cipher.DefaultNote; empty: none
}

// Limits bounds what a client may send. Sizes are bytes.
type Limits struct {
	// MessageSize is the largest size of a message, before it is encrypted or as it
	// arrives; default 100 MiB. A next hop may offer less.
	MessageSize int64 `toml:"message_size,size"`
	// LineLength is the length of the longest line of a message, without its CRLF;
	// default 1 MiB. RFC 5322 allows 998, but real mail has longer lines, and they are
	// restored as they were.
	LineLength int64 `toml:"line_length,size"`
	HeaderSize int64 `toml:"header_size,size"` // default 256 KiB

	Received   int `toml:"received"`   // Received fields, against loops; default 50
	Recipients int `toml:"recipients"` // per transaction; default 1000
	// Memory bounds the memory of all messages under way together; a message beyond it is
	// answered with 451. 0, the default: 320 KiB for each of Connections, and 32 MiB.
	Memory int64 `toml:"memory,size"`

	Connections          int `toml:"connections"`            // clients of each listener at one time; default 500
	ConnectionsPerClient int `toml:"connections_per_client"` // of those, from one address; default 50
}

// MemoryBytes returns Memory, or the default: enough for messages with ordinary headers
// from all clients, and some with long ones.
func (l *Limits) MemoryBytes() int64 {
	return cmp.Or(l.Memory, int64(l.Connections)*mailer.MessageMemory+32<<20)
}

// Timeouts bounds every wait.
type Timeouts struct {
	// Of clients.
	Idle     time.Duration `toml:"idle"`      // between two commands; default 5 min
	DataIdle time.Duration `toml:"data_idle"` // within DATA, between two pieces; default 3 min
	MinRate  int64         `toml:"min_rate"`  // least average rate of DATA, in bytes per second, once DataIdle has passed; default 128; 0: any

	// Of next hops.
	Connect     time.Duration `toml:"connect"`       // default 30 s
	Command     time.Duration `toml:"command"`       // for the answer to a command, and for each write; default 5 min
	AfterDot    time.Duration `toml:"after_dot"`     // for the answer to a whole message; default 9 min, as Postfix gives up after 10
	NextHopIdle time.Duration `toml:"next_hop_idle"` // how long a connection is kept unused; default 1 min

	Shutdown time.Duration `toml:"shutdown"` // for messages under way to end when the relay stops; default 30 s
}
