package cipher

import (
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
)

// Message sizes up to which SuiteAuto takes the pad, in bytes.
const (
	DefaultPadLimit = 64 << 10
	// MaxPadLimit is the largest EncryptOptions.PadLimit: the Writer buffers a message
	// until it is known to be longer than the limit.
	MaxPadLimit = 1 << 20
)

// DefaultNote is the note of a message whose EncryptOptions.Note is nil.
const DefaultNote = `This message is encrypted with qkdmail, with a key from Quantum Key
Distribution. If you can read this, it has reached you without passing
through the qkdmail of your organisation: ask your mail administrator.
`

// EncryptOptions says how to encrypt a message. The zero value is useful: AES-256-GCM,
// a hidden subject, no SAE IDs.
type EncryptOptions struct {
	Suite    Suite // "": SuiteAES256GCM
	PadLimit int   // message size in bytes up to which SuiteAuto takes the pad; 0: DefaultPadLimit

	// Hybrid is the recipient's X-Wing key. If it is set, the suite is a hybrid one,
	// whatever Suite says; a hybrid Suite without it is an error.
	Hybrid *HybridPublicKey
	// Recipients are the addresses that the message is sealed for, at most
	// MaxRecipients, as net/mail and go-smtp give them: without angle brackets, source
	// route and the quotes around a local part. Empty: anyone at the peer.
	Recipients []string

	SAE  string // own SAE ID; "": none
	Peer string // SAE ID of the recipient; "": none

	Headers HeaderPolicy // "": HeadersBaseline
	// Note is the text that mail programs show if the message is not decrypted. nil:
	// DefaultNote; empty: none.
	Note *string
	// CRLF ends the lines of the encrypted message with CRLF, as SMTP needs. Otherwise
	// they end as the first line of the message does.
	CRLF bool
	// UTF8 allows raw UTF-8 in addresses of the outer header, as in an SMTPUTF8
	// transaction (RFC 6531). Otherwise such an address is left out.
	UTF8 bool
	// From is the address of the outer From if the message has no usable one. If this
	// one is not usable either, or is "", an address in the reserved domain "invalid"
	// takes its place.
	From string
	// Time is the time of encryption, in the years 1970 to 9999; zero: now.
	Time time.Time
}

// DecryptOptions says which messages to accept. With only a Binder, it accepts messages
// without SAE IDs and without X-Wing. Who may get a message is not decided here: ask
// Reader.Recipients.
type DecryptOptions struct {
	// Binder makes sure that a key opens only one message. It must be set, to a
	// keystore.Store or to Unbound.
	Binder KeyBinder

	// Hybrid are the X-Wing keys that may open a message under a hybrid suite.
	Hybrid []*HybridPrivateKey

	SAE   string   // own SAE ID, which the message must be addressed to; "": none
	Peers []string // SAE IDs of possible senders; empty: only messages without one

	// Accept, if not nil, is called before the payload is read and the first key is
	// asked for, with all that the message says about itself above its payload. None of
	// this is authenticated yet. If Accept returns an error, the message is refused and
	// Decrypt returns that error.
	Accept func(*Info) error
}

// withDefaults returns the options with their defaults filled in.
func (o *EncryptOptions) withDefaults() (EncryptOptions, error) {
	var opts EncryptOptions
	if o != nil {
		opts = *o
	}
	if opts.Suite == "" {
		opts.Suite = SuiteAES256GCM
	}
	if _, err := ParseSuite(string(opts.Suite)); err != nil {
		return opts, err
	}
	switch {
	case opts.Hybrid != nil:
		opts.Suite = opts.Suite.hybrid()
	case opts.Suite.Hybrid():
		return opts, fmt.Errorf("%w: suite %s takes the recipient's X-Wing public key", ErrOptions, opts.Suite)
	}
	if err := checkRecipients(opts.Recipients); err != nil {
		return opts, err
	}
	if opts.PadLimit == 0 {
		opts.PadLimit = DefaultPadLimit
	}
	if opts.PadLimit < 0 || opts.PadLimit > MaxPadLimit {
		return opts, fmt.Errorf("%w: pad limit of %d bytes: must be 1 to %d", ErrOptions, opts.PadLimit, MaxPadLimit)
	}
	if opts.Headers == "" {
		opts.Headers = HeadersBaseline
	}
	if _, err := ParseHeaderPolicy(string(opts.Headers)); err != nil {
		return opts, err
	}
	if opts.Note == nil {
		note := DefaultNote
		opts.Note = &note
	}
	for _, sae := range []string{opts.SAE, opts.Peer} {
		if len(controlSAE(sae)) > envelope.MaxValue {
			return opts, fmt.Errorf("%w: an SAE ID of %d bytes: must be at most %d, escaped", ErrOptions, len(sae), envelope.MaxValue)
		}
	}
	if opts.Time.IsZero() {
		opts.Time = time.Now()
	}
	if !isDate(opts.Time) {
		return opts, fmt.Errorf("%w: a time in the year %d", ErrOptions, opts.Time.UTC().Year())
	}
	opts.Time = opts.Time.Truncate(time.Second)
	return opts, nil
}
