package relay_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/kmclient/mock"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A whole relay in a program of your own, with a configuration as the command reads it
// from a file.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "qkdmail")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	km, err := mock.New(mock.Options{Path: filepath.Join(dir, "keys.json")})
	if err != nil {
		log.Fatal(err)
	}
	nextHop, inbox, stop := mailServer()
	defer stop()

	cfg, err := config.Quick(config.QuickOptions{
		Direction: mailer.DirectionEncrypt,
		Listen:    "127.0.0.1:0",
		NextHop:   nextHop,
		KM:        config.KM{URL: "mock:keys.json"},
	})
	if err != nil {
		log.Fatal(err)
	}
	r, err := relay.New(cfg, relay.WithoutStore(km), nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := r.Listen(ctx); err != nil {
		log.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- r.Serve(ctx) }()

	c, err := smtp.Dial(r.Addrs()[0].String())
	if err != nil {
		log.Fatal(err)
	}
	err = c.SendMail("alice@a.example", []string{"bob@b.example"}, strings.NewReader(
		"From: alice@a.example\r\nTo: bob@b.example\r\nSubject: lunch\r\n\r\nAt noon?\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	_ = c.Quit()
	for line := range strings.Lines(<-inbox) {
		if strings.HasPrefix(line, "Subject:") {
			fmt.Println(strings.TrimSpace(line))
		}
	}
	cancel() // messages under way are finished first
	fmt.Println(<-served)
	// Output:
	// Subject: [...]
	// <nil>
}

// mailServer runs a mail server that puts what it takes into inbox.
func mailServer() (addr string, inbox chan string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	inbox = make(chan string, 1)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session(inbox), nil }))
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), inbox, func() { _ = server.Close() }
}

// A session takes messages.
type session chan string

func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (session) Reset()                               {}
func (session) Logout() error                        { return nil }

func (s session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		s <- string(text)
	}
	return err
}
