package mailer_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/mock"
	"github.com/qkdmail/qkdmail/mailer"
)

// A mailbox is the backend of a mail server of your own.
type mailbox struct{ messages chan string }

func (m mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailboxSession{m}, nil }

type mailboxSession struct{ mailbox }

func (s *mailboxSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailboxSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *mailboxSession) Reset()                               {}
func (s *mailboxSession) Logout() error                        { return nil }

// Data accepts a message only at its end: an error before that says that it must not be
// delivered.
func (s *mailboxSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		s.messages <- string(text)
	}
	return err
}

// sharedKeys is a key manager without hardware that both sides share.
func sharedKeys() (km kmclient.KeyManager, remove func()) {
	dir, err := os.MkdirTemp("", "qkdmail")
	if err != nil {
		log.Fatal(err)
	}
	km, err = mock.New(mock.Options{Path: filepath.Join(dir, "keys.json")})
	if err != nil {
		log.Fatal(err)
	}
	return km, func() { _ = os.RemoveAll(dir) }
}

// serve runs a go-smtp server at a free port.
func serve(backend smtp.Backend) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := smtp.NewServer(backend)
	server.Domain = "mail.example"
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), func() { _ = server.Close() }
}

// send sends a message as mail programs do.
func send(addr, from, to, message string) {
	c, err := smtp.Dial(addr)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(message)); err != nil {
		log.Fatal(err)
	}
}

// show prints the lines of a message that begin with one of the prefixes.
func show(message string, prefixes ...string) {
	for line := range strings.Lines(message) {
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				fmt.Println(strings.TrimSpace(line))
			}
		}
	}
}

const outgoing = "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nSubject: lunch\r\n\r\nAt noon?\r\n"

// A mail server of your own encrypts what leaves.
func ExampleEncrypt() {
	km, remove := sharedKeys()
	defer remove()
	policy, err := mailer.NewPolicy(mailer.PolicyOptions{
		Peers: []mailer.Peer{{Name: "bravo"}},
		Rules: []mailer.Rule{{Domain: "default", Peer: "bravo"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	queue := mailbox{make(chan string, 1)}
	backend, err := mailer.Encrypt(queue, mailer.EncryptOptions{
		Step: mailer.Step{Policy: policy, Hostname: "mail.a.example"},
		Keys: km,
	})
	if err != nil {
		log.Fatal(err)
	}
	addr, stop := serve(backend)
	defer stop()

	send(addr, "alice@a.example", "bob@b.example", outgoing)
	show(<-queue.messages, "To:", "Subject:", "Content-Type: application", "Suite:")
	// Output:
	// To: bob@b.example
	// Subject: [...]
	// Content-Type: application/vnd.qkdmail
	// Suite: OTP
	// Content-Type: application/octet-stream
}

// A mail server of your own restores what arrives, and refuses plain mail from the peer's
// domain.
func ExampleDecrypt() {
	km, remove := sharedKeys()
	defer remove()
	policy, err := mailer.NewPolicy(mailer.PolicyOptions{
		Peers: []mailer.Peer{{Name: "alpha", Domains: []string{"a.example"}}},
		Rules: []mailer.Rule{{Domain: "default", Peer: "alpha"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	inbox := mailbox{make(chan string, 1)}
	step := mailer.Step{Policy: policy, Hostname: "mail.b.example"}
	restoring, err := mailer.Decrypt(inbox, mailer.DecryptOptions{
		Step: step, Keys: km,
		Binder: cipher.Unbound, Deliveries: mailer.Unrecorded, // with a store that keeps keys: the store
	})
	if err != nil {
		log.Fatal(err)
	}
	arrival, stop := serve(restoring)
	defer stop()

	// The other site.
	queue := mailbox{make(chan string, 1)}
	encrypting, err := mailer.Encrypt(queue, mailer.EncryptOptions{Step: step, Keys: km})
	if err != nil {
		log.Fatal(err)
	}
	departure, stop := serve(encrypting)
	defer stop()

	send(departure, "alice@a.example", "bob@b.example", outgoing)
	send(arrival, "alice@a.example", "bob@b.example", <-queue.messages)
	restored := <-inbox.messages
	show(restored, "Qkdmail-Result:", "decrypt=", "Subject:")
	fmt.Println(strings.HasSuffix(restored, "\r\n"+outgoing))
	// Output:
	// Qkdmail-Result: mail.b.example;
	// Subject: lunch
	// true
}

// Peers and rules make a policy, which says what happens to the mail of an address.
func ExampleNewPolicy() {
	policy, err := mailer.NewPolicy(mailer.PolicyOptions{
		Peers: []mailer.Peer{{Name: "site-b", SAE: "SAE_B", Domains: []string{"b.example"}}},
		Rules: []mailer.Rule{
			{Domain: "b.example", Peer: "site-b", Encrypt: mailer.Required},
			{Domain: "default", Encrypt: mailer.Never},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = policy.Explain(os.Stdout, "user@b.example")
	_ = policy.Explain(os.Stdout, "user@c.example")
	// Output:
	// user@b.example
	//   domain    b.example
	//   rule      b.example
	//   mail to   is encrypted for peer "site-b", SAE SAE_B, or waits until it can be
	//   suite     OTP for messages of up to 64 KiB, AES-256-GCM above
	//   mail from must come encrypted from peer "site-b", SAE SAE_B
	// user@c.example
	//   domain    c.example
	//   rule      default
	//   mail to   leaves as it is, not encrypted
	//   mail from passes where it is not encrypted; no peer has this domain
}
