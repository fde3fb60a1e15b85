package mailer_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
)

// The sessions work under go-smtp's server: over SMTP and LMTP, a message is encrypted
// and comes back byte for byte, and each recipient gets an answer.
func TestGoSMTPServer(t *testing.T) {
	for name, lmtp := range map[string]bool{"SMTP": false, "LMTP": true} {
		t.Run(name, func(t *testing.T) {
			km, remove := sharedKeys()
			defer remove()
			policy, err := mailer.NewPolicy(mailer.PolicyOptions{
				Peers: []mailer.Peer{{Name: "bravo", Domains: []string{"b.example", "a.example"}}},
				Rules: []mailer.Rule{{Domain: "default", Peer: "bravo"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			step := mailer.Step{Policy: policy, Hostname: "mail.example"}
			queue, inbox := mailbox{make(chan string, 1)}, mailbox{make(chan string, 1)}
			encrypting, err := mailer.Encrypt(queue, mailer.EncryptOptions{Step: step, Keys: km})
			if err != nil {
				t.Fatal(err)
			}
			decrypting, err := mailer.Decrypt(inbox, mailer.DecryptOptions{Step: step, Keys: km, Binder: cipher.Unbound, Deliveries: mailer.Unrecorded})
			if err != nil {
				t.Fatal(err)
			}
			out, in := goSMTP(t, encrypting, lmtp), goSMTP(t, decrypting, lmtp)

			message := outgoing + strings.Repeat("a line of text.\r\n.\r\n", 40_000)
			out.send(message, "alice@a.example", "bob@b.example", "carol@b.example")
			sealed := <-queue.messages
			if strings.Contains(sealed, "lunch") || strings.Contains(sealed, "a line of text") {
				t.Fatal("left in clear")
			}
			in.send(sealed, "alice@a.example", "bob@b.example", "carol@b.example")
			_, restored, found := strings.Cut(<-inbox.messages, "\r\nFrom: ")
			if !found || "From: "+restored != message {
				t.Errorf("%d bytes came back as %d", len(message), len(restored))
			}

			// Mail in the peer's name that is not encrypted.
			err = in.try(message, "alice@a.example", "bob@b.example")
			if reply := (*smtp.SMTPError)(nil); !errors.As(err, &reply) || reply.Code != 550 {
				t.Errorf("plain mail of a peer: %v, want 550", err)
			}
		})
	}
}

// A goSMTPServer is go-smtp's server.
type goSMTPServer struct {
	t    *testing.T
	addr string
	lmtp bool
}

func goSMTP(t *testing.T, backend smtp.Backend, lmtp bool) goSMTPServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(backend)
	server.Domain, server.LMTP = "mail.example", lmtp
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return goSMTPServer{t, l.Addr().String(), lmtp}
}

func (s goSMTPServer) send(message, from string, to ...string) {
	s.t.Helper()
	if err := s.try(message, from, to...); err != nil {
		s.t.Fatal(err)
	}
}

// try sends a message. Over LMTP the error joins those of all recipients.
func (s goSMTPServer) try(message, from string, to ...string) error {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return err
	}
	c := smtp.NewClient(conn)
	if s.lmtp {
		c = smtp.NewClientLMTP(conn)
	}
	defer c.Close()
	return c.SendMail(from, to, strings.NewReader(message))
}
