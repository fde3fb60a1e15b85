package mailer_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
)

// A step is not made without what keeps its promises.
func TestOptionsThatMustBeSet(t *testing.T) {
	policy, err := mailer.NewPolicy(mailer.PolicyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	km := mailtest.NewKM()
	encrypt := func(change func(*mailer.EncryptOptions)) error {
		o := mailer.EncryptOptions{Step: mailer.Step{Policy: policy}, Keys: km}
		change(&o)
		_, err := mailer.Encrypt(&recordingBackend{}, o)
		return err
	}
	decrypt := func(change func(*mailer.DecryptOptions)) error {
		o := mailer.DecryptOptions{Step: mailer.Step{Policy: policy}, Keys: km, Binder: cipher.Unbound, Deliveries: mailer.Unrecorded}
		change(&o)
		_, err := mailer.Decrypt(&recordingBackend{}, o)
		return err
	}
	for name, tt := range map[string]struct {
		err error
		ok  bool
	}{
		"to encrypt, all":                  {encrypt(func(*mailer.EncryptOptions) {}), true},
		"to encrypt, no Policy":            {encrypt(func(o *mailer.EncryptOptions) { o.Policy = nil }), false},
		"to encrypt, no Keys":              {encrypt(func(o *mailer.EncryptOptions) { o.Keys = nil }), false},
		"to decrypt, all":                  {decrypt(func(*mailer.DecryptOptions) {}), true},
		"to decrypt, no Policy":            {decrypt(func(o *mailer.DecryptOptions) { o.Policy = nil }), false},
		"to decrypt, no Keys":              {decrypt(func(o *mailer.DecryptOptions) { o.Keys = nil }), false},
		"to decrypt, no Binder":            {decrypt(func(o *mailer.DecryptOptions) { o.Binder = nil }), false},
		"to decrypt, no Deliveries":        {decrypt(func(o *mailer.DecryptOptions) { o.Deliveries = nil }), false},
		"to decrypt, Keys that could bind": {decrypt(func(o *mailer.DecryptOptions) { o.Keys, o.Binder, o.Deliveries = &keystore.Store{}, nil, nil }), false},
	} {
		if tt.ok != (tt.err == nil) || !tt.ok && !errors.Is(tt.err, mailer.ErrConfig) {
			t.Errorf("%s: %v", name, tt.err)
		}
	}
	if _, err := mailer.Decrypt(nil, mailer.DecryptOptions{Step: mailer.Step{Policy: policy}, Keys: km, Binder: cipher.Unbound, Deliveries: mailer.Unrecorded}); !errors.Is(err, mailer.ErrConfig) {
		t.Errorf("without a backend: %v", err)
	}
}

// A loggingKM is a wrapper around a key manager that forwards only what it knows.
type loggingKM struct{ cipher.KeyFinder }

// A wrapper around the key manager switches off neither "one key, one message" nor
// "delivered once".
func TestWrapperAroundKeyManager(t *testing.T) {
	hop, km := mailtest.StartHop(t), mailtest.NewKM()
	store := mailtest.OpenStore(t, km, keystore.Options{})
	keys := relay.Keys{Finder: loggingKM{store}, Binder: store, Deliveries: store}
	r := mailtest.StartRelayWithKeys(t, km, keys, mailer.DirectionDecrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	first := mailtest.Seal(t, km, mailtest.Text)
	second := sealAgain(t, km, "From: Alice <alice@a.example>\r\n\r\nanother\r\n")
	c.Want("250", c.Mail(first, "alice@a.example", "bob@b.example"))
	hop.One()
	c.Want("250", c.Mail(first, "alice@a.example", "bob@b.example"))
	if n := len(hop.Got()); n != 1 {
		t.Errorf("the message was delivered %d times", n)
	}
	hop.Forget()
	c.Want("550 5.7.1", c.Mail(second, "alice@a.example", "carol@b.example"))
	hop.None()
}

// A loggingBackend is a wrapper around the next hop whose sessions have only go-smtp's
// methods.
type loggingBackend struct{ next smtp.Backend }

func (b loggingBackend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s, err := b.next.NewSession(c)
	return struct{ smtp.Session }{s}, err
}

// A wrapper around the next hop does not turn a refusal of the next hop into a success,
// nor a message that was only half written.
func TestWrapperAroundNextHop(t *testing.T) {
	policy, err := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1").Policy()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		script string // the answer to the dot
		km     error
		code   int
	}{
		"it delivers": {"", nil, 250},
		"it refuses":  {"554 5.7.1 no", nil, 554},
		"no key":      {"", kmclient.ErrKeyExhausted, 451},
	} {
		t.Run(name, func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, mailtest.Answering("DOT", tt.script))
			km := mailtest.NewKM()
			km.OnGet = func(context.Context) error { return tt.km }
			step, err := mailer.Encrypt(loggingBackend{mailtest.NextHop(t, hop)}, mailer.EncryptOptions{Step: mailer.Step{Policy: policy, LMTP: true}, Keys: km})
			if err != nil {
				t.Fatal(err)
			}
			code := deliverTo(t, step, "bob@b.example")
			if code != tt.code || len(hop.Got()) > 0 != (tt.code == 250) {
				t.Errorf("answered %d with %d messages at the next hop, want %d", code, len(hop.Got()), tt.code)
			}
		})
	}
}

// The relay's HandOver takes only sessions of its own next hop: a wrapper around them is
// an error, so that no answer is lost silently.
func TestHandOverRefusesWrappers(t *testing.T) {
	policy, err := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1").Policy()
	if err != nil {
		t.Fatal(err)
	}
	for name, wrapped := range map[string]bool{"its own": false, "wrapped": true} {
		hop := mailtest.StartHop(t)
		next := mailtest.NextHop(t, hop)
		var backend smtp.Backend = next
		want := 250
		if wrapped {
			backend, want = loggingBackend{next}, 451
		}
		step, err := mailer.Encrypt(backend, mailer.EncryptOptions{Step: mailer.Step{Policy: policy, HandOver: next.HandOver}, Keys: mailtest.NewKM()})
		if err != nil {
			t.Fatal(err)
		}
		if code := deliverTo(t, step, "bob@b.example"); code != want || len(hop.Got()) > 0 != (want == 250) {
			t.Errorf("%s: answered %d with %d messages at the next hop, want %d", name, code, len(hop.Got()), want)
		}
	}
}

// If there are not as many answers as recipients, no one knows whose they are: no
// recipient counts as delivered.
func TestHandOverCountsAnswers(t *testing.T) {
	policy, err := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1").Policy()
	if err != nil {
		t.Fatal(err)
	}
	for name, answers := range map[string][]error{"too few": {}, "too many": {nil, nil}} {
		handOver := func(_ smtp.Session, write func(io.Writer) error) ([]error, []string, error) {
			return answers, []string{"taken"}, write(io.Discard)
		}
		step, err := mailer.Encrypt(mailtest.NextHop(t, mailtest.StartHop(t)), mailer.EncryptOptions{
			Step: mailer.Step{Policy: policy, HandOver: handOver}, Keys: mailtest.NewKM(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if code := deliverTo(t, step, "bob@b.example"); code != 451 {
			t.Errorf("%s: answered %d, want 451", name, code)
		}
	}
}

// deliverTo sends a message through a step, and returns the code of the answer.
func deliverTo(t *testing.T, step smtp.Backend, rcpt string) int {
	t.Helper()
	s, err := step.NewSession(nil)
	if err == nil {
		defer func() { _ = s.Logout() }()
		err = s.Mail("alice@a.example", nil)
	}
	if err == nil {
		err = s.Rcpt(rcpt, nil)
	}
	if err == nil {
		err = s.Data(strings.NewReader(mailtest.Text))
	}
	if reply := (*smtp.SMTPError)(nil); errors.As(err, &reply) {
		return reply.Code
	}
	if err != nil {
		t.Fatal(err)
	}
	return 250
}
