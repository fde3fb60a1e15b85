package mailer

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	kmopen "github.com/qkdmail/qkdmail/kmclient/open"
)

// Config is the configuration of a relay, usually from one TOML file: see
// [LoadConfig], and docs/relay.toml for every key with its meaning and default.
// It is data only; [NewPolicy] makes something of the peers and rules.
//
// In the tags below, "size" is a number of octets that may be written with a
// unit (64, "256 KiB"), and "file" a path that is relative to the folder of the
// configuration file. "store" and "secret" are texts of which some are, or hold,
// such a path: see StoreConfig.
type Config struct {
	// Hostname is the relay's name in greetings, EHLO and Received. It is the
	// host's own where the file has none.
	Hostname string `toml:"hostname"`

	Site       SiteConfig       `toml:"site"`
	Listeners  []ListenerConfig `toml:"listener"`
	NextHops   []NextHopConfig  `toml:"next_hop"`
	KM         KMConfig         `toml:"km"`
	Store      StoreConfig      `toml:"store"`
	Peers      []PeerConfig     `toml:"peer"`
	Rules      []RuleConfig     `toml:"rule"`
	NullSender NullSenderConfig `toml:"null_sender"`
	Headers    HeadersConfig    `toml:"headers"`
	Limits     LimitsConfig     `toml:"limits"`
	Timeouts   TimeoutsConfig   `toml:"timeouts"`
	Log        LogConfig        `toml:"log"`
	Admin      AdminConfig      `toml:"admin"`

	file  string         // where it was read; "" if nowhere
	lines map[string]int // in which line of it a key stands: "listener[0].name"
}

// SiteConfig is about the relay's own site.
type SiteConfig struct {
	// Domains are those of this site's users, "a.example" or "*.a.example". A peer
	// may not send mail in their name. Default none.
	Domains []string `toml:"domains"`
}

// A Direction is what a listener does with mail.
type Direction string

const (
	DirectionEncrypt Direction = "encrypt"
	DirectionDecrypt Direction = "decrypt"
)

// A Protocol is how mail is handed over.
type Protocol string

const (
	ProtocolSMTP Protocol = "smtp"
	ProtocolLMTP Protocol = "lmtp" // with an answer for each recipient
)

// TLSMode says whether a connection is encrypted with STARTTLS.
type TLSMode string

const (
	TLSOff           TLSMode = "off"           // not offered, not used
	TLSOpportunistic TLSMode = "opportunistic" // where the other side can; its certificate is not verified
	TLSRequired      TLSMode = "required"      // no mail without; a next hop's certificate is verified
)

// A ListenerConfig is an address at which the relay takes mail.
type ListenerConfig struct {
	Name      string    `toml:"name"`
	Direction Direction `toml:"direction"`
	Protocol  Protocol  `toml:"protocol"` // default smtp
	Address   string    `toml:"address"`  // HOST:PORT or unix:/PATH
	NextHop   string    `toml:"next_hop"` // name of the next hop

	// Networks are the clients that may connect; default loopback. Behind a
	// unix: address it is the file's permissions that say who may.
	Networks []netip.Prefix `toml:"networks"`
	// XForward are the clients that may say with XFORWARD for whom they speak;
	// default none.
	XForward []netip.Prefix `toml:"xforward"`

	TLS     TLSMode `toml:"tls"` // default off
	TLSCert string  `toml:"tls_cert,file"`
	TLSKey  string  `toml:"tls_key,file"`
	// AuthFile has the users for AUTH PLAIN, see [LoadUsers]. With it every
	// client must authenticate, and can do so over TLS only; Networks holds as
	// well.
	AuthFile string `toml:"auth_file,file"`
}

// A NextHopConfig is a server that mail is handed to.
type NextHopConfig struct {
	Name     string   `toml:"name"`
	Address  string   `toml:"address"`  // HOST:PORT or unix:/PATH
	Protocol Protocol `toml:"protocol"` // default smtp

	TLS     TLSMode `toml:"tls"`         // default opportunistic
	TLSCA   string  `toml:"tls_ca,file"` // PEM, the CAs to trust instead of the system's
	TLSName string  `toml:"tls_name"`    // name in the certificate; default the host of Address

	AuthUser         string `toml:"auth_user"` // for AUTH PLAIN; only with TLSRequired
	AuthPasswordFile string `toml:"auth_password_file,file"`

	MaxConnections int `toml:"max_connections"` // at one time; default 500
	MaxIdle        int `toml:"max_idle"`        // of them, kept open for the next message; default 20
	// MaxMessages is how many messages go through one connection; 0, the default: 10
	// where the greeting names Exim, which only queues what comes after the tenth
	// (smtp_accept_queue_per_connection), else 1000.
	MaxMessages int `toml:"max_messages"`
}

// KMConfig names the key manager. Its keys CA to KMEID are those of
// [kmopen.Options].
type KMConfig struct {
	URL   string `toml:"url"` // as kmopen.KeyManager takes it
	SAE   string `toml:"sae"` // our own SAE ID; "": none
	CA    string `toml:"ca,file"`
	Cert  string `toml:"cert,file"`
	Key   string `toml:"key,file"`
	KMEID string `toml:"kme_id"`

	RequestTimeout time.Duration `toml:"request_timeout"` // of one request; default 30 s
	Timeout        time.Duration `toml:"timeout"`         // of a message's wait for a key, failover included; default 60 s
	KeyGrace       time.Duration `toml:"key_grace"`       // how long the key of an arriving message may be missing; default DefaultKeyGrace

	// Pool has keys fetched ahead for what is encrypted; default true. The
	// others are those of [keypool.Options]; 0 is its default.
	Pool       bool          `toml:"pool"`
	PoolBatch  int           `toml:"pool_batch"`   // keys a fetch
	PoolMax    int           `toml:"pool_max"`     // keys for one peer
	PoolMaxAge time.Duration `toml:"pool_max_age"` // of a key that waits
}

// Options returns what [kmopen.KeyManager] takes beside the URL.
func (c *KMConfig) Options() kmopen.Options {
	return kmopen.Options{
		CAFile: c.CA, CertFile: c.Cert, KeyFile: c.Key, KMEID: c.KMEID, SAE: c.SAE, Timeout: c.RequestTimeout,
	}
}

// PoolOptions returns what [keypool.New] takes.
func (c *KMConfig) PoolOptions() keypool.Options {
	return keypool.Options{Batch: c.PoolBatch, Max: c.PoolMax, MaxAge: c.PoolMaxAge, Timeout: c.Timeout}
}

// What StoreConfig.Path can be beside the path of a file.
const (
	StoreNone     = "none"        // keys are not kept
	StorePostgres = "postgres://" // what the URL of a database begins with, as libpq has it; also postgresql://
)

// StoreConfig says where keys are kept until their messages are delivered, and
// for how long: see package [keystore].
type StoreConfig struct {
	// Path is an SQLite file, a StorePostgres URL, or StoreNone. "": a file in the
	// state directory, if the key manager deletes keys when it hands them out.
	Path string `toml:"path,store"`
	// Key seals what is stored: "file:PATH", "credential:NAME" or "env:NAME", as
	// [keystore.ParseKeySource] has it. "": a file beside the SQLite file, made
	// with it.
	Key string `toml:"key,secret"`

	Close       keystore.Policy `toml:"close"`       // default after:7d
	Tombstones  time.Duration   `toml:"tombstones"`  // how long a closed key is remembered; default 60 days
	Undelivered time.Duration   `toml:"undelivered"` // when a key goes whose message did not come; 0, the default, is never
}

// A PeerConfig is a site that mail is exchanged with.
type PeerConfig struct {
	Name string `toml:"name"`
	// SAE is the peer's SAE ID; "" or "-": none, as the mock and QMail REST
	// need none. One peer at most can be without.
	SAE string `toml:"sae"`
	// Domains are those of the peer's users, "b.example" or "*.b.example".
	// They say who may send as whom, and whose plain mail Inbound is about.
	Domains []string `toml:"domains"`
	Inbound Inbound  `toml:"inbound"` // default required
	// Suites are accepted from the peer, by their names in any case; default
	// all.
	Suites []string `toml:"suites"`
}

// SAEID returns the peer's SAE ID, "" for none.
func (p *PeerConfig) SAEID() string {
	if p.SAE == "-" {
		return ""
	}
	return p.SAE
}

// A RuleConfig says how mail to a domain leaves.
type RuleConfig struct {
	// Domain is "b.example", "*.b.example" for the domains beneath it at any
	// depth, or "default".
	Domain   string `toml:"domain"`
	Peer     string `toml:"peer"`           // name of the peer
	Encrypt  Mode   `toml:"encrypt"`        // default required
	Suite    string `toml:"suite"`          // auto, otp or aes-256-gcm in any case; default auto
	PadLimit int    `toml:"pad_limit,size"` // octets of message up to which auto takes OTP; 0: cipher.DefaultPadLimit
}

// What NullSenderConfig.Inbound can be.
const (
	NullSenderAccept   = "accept"
	NullSenderRequired = "required"
)

// NullSenderConfig is about reports, which have the null sender, MAIL FROM:<>.
// Those that leave take the same rules as all other mail.
type NullSenderConfig struct {
	// Inbound says what happens to a report that arrives in clear and whose
	// header From is in a domain with [InboundRequired]: NullSenderRequired
	// (default) refuses it as it refuses other mail, NullSenderAccept lets it
	// pass. The latter lets anybody send plain mail in the name of such a
	// domain, by sending it as a report.
	Inbound string `toml:"inbound"`
}

// HeadersConfig says what can be read of an encrypted message.
type HeadersConfig struct {
	Policy cipher.HeaderPolicy `toml:"policy"` // default hcp_baseline
	Note   *string             `toml:"note"`   // of at most 8 KiB; nil: cipher.DefaultNote; empty: none
}

// LimitsConfig bounds what a client may send. Sizes are octets.
type LimitsConfig struct {
	// MessageSize is that of a message before it is encrypted or as it
	// arrives; default 100 MiB. What a next hop offers may be less.
	MessageSize int64 `toml:"message_size,size"`
	// LineLength is that of a line of a message, without its CRLF; default
	// 1 MiB. RFC 5322 has 998, but longer lines are in real mail and are
	// restored as they were.
	LineLength int64 `toml:"line_length,size"`
	HeaderSize int64 `toml:"header_size,size"` // default 256 KiB

	Received   int `toml:"received"`   // Received fields, against loops; default 50
	Recipients int `toml:"recipients"` // a transaction; default 1000
	// Memory bounds what all messages under way take together; one too many gets
	// 421. 0, the default: 320 KiB for each of Connections, and 32 MiB.
	Memory int64 `toml:"memory,size"`

	Connections          int `toml:"connections"`            // of clients at one time, of each listener; default 500
	ConnectionsPerClient int `toml:"connections_per_client"` // of one address; default 50
}

// TimeoutsConfig bounds every wait.
type TimeoutsConfig struct {
	// Of clients.
	Idle     time.Duration `toml:"idle"`      // between two commands; default 5 min
	DataIdle time.Duration `toml:"data_idle"` // within DATA, between two pieces; default 3 min
	MinRate  int64         `toml:"min_rate"`  // octets a second of DATA, on average, once DataIdle has passed; default 128; 0: any

	// Of next hops.
	Connect     time.Duration `toml:"connect"`       // default 30 s
	Command     time.Duration `toml:"command"`       // for the answer to a command, and for each write; default 5 min
	AfterDot    time.Duration `toml:"after_dot"`     // for the answer to a whole message; default 9 min, as Postfix gives up after 10
	NextHopIdle time.Duration `toml:"next_hop_idle"` // a connection is kept unused; default 1 min

	Shutdown time.Duration `toml:"shutdown"` // for messages under way when the relay stops; default 30 s
}

// What LogConfig.MessageID and LogConfig.Format can be.
const (
	LogMessageIDClear = "clear"
	LogMessageIDHash  = "hash"
	LogMessageIDOff   = "off"

	LogText = "text"
	LogJSON = "json"
)

// LogConfig says what is logged.
type LogConfig struct {
	MessageID string     `toml:"message_id"` // default clear
	Addresses bool       `toml:"addresses"`  // of senders and recipients; default false
	Format    string     `toml:"format"`     // default text
	Level     slog.Level `toml:"level"`      // debug, info (default), warn or error
}
