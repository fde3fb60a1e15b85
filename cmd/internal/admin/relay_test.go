package admin_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestNothingOfMailIsShown sends mail with telling marks through a relay, both
// ways, some of it refused, and looks for the marks on all pages.
func TestNothingOfMailIsShown(t *testing.T) {
	const mark = "t3lltale"
	taken := &inbox{}
	hop := listen(t)
	go (&smtpkit.Sink{Take: taken.take}).Serve(hop)
	cfg, err := config.Parse("relay.toml", []byte(strings.ReplaceAll(bothWays, "HOP", hop.Addr().String())))
	if err != nil {
		t.Fatal(err)
	}
	km := new(smtpkit.Keys)
	relay, err := relay.New(cfg, relay.WithoutStore(km), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := relay.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := admin.New(admin.Sources{Config: cfg, Keys: km, NextHops: relay, Version: "v1"})
	relay.Observe(m)
	run(t, func(ctx context.Context) {
		if err := relay.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	run(t, m.Run)
	web := listen(t)
	run(t, func(ctx context.Context) {
		if err := admin.Serve(ctx, web, m.Handler(), admin.ServeOptions{}); err != nil {
			t.Error(err)
		}
	})

	out, in := relay.Addrs()[0].String(), relay.Addrs()[1].String()
	user, peer := mark+"-user@a.example", mark+"-peer@b.example"
	message := "From: " + mark + " <" + user + ">\r\nTo: " + peer + "\r\nSubject: " + mark + " subject\r\n" +
		"Date: Wed, 4 Mar 2026 09:30:00 +0000\r\nMessage-ID: <" + mark + "@a.example>\r\n\r\n" + mark + " body\r\n"
	send(t, out, user, peer, message, true)
	encrypted := taken.last(t)
	if strings.Contains(encrypted, "body") || !strings.Contains(encrypted, "Qkdmail-Key-ID: bench-key-") {
		t.Fatalf("not encrypted:\n%s", encrypted)
	}
	send(t, in, user, peer, encrypted, true)
	if got := taken.last(t); !strings.HasSuffix(got, message) {
		t.Fatalf("not restored:\n%s", got)
	}
	send(t, in, peer, user, "From: "+peer+"\r\n\r\n"+mark+"\r\n", false)                               // has to be encrypted
	send(t, in, user, peer, strings.Replace(encrypted, "bench-key-", mark+"-key-", 1), false)          // another key ID in the header
	send(t, out, user, peer, strings.Replace(message, "body", "bo\ndy", 1), false)                     // a bare line end
	send(t, in, user, mark+" "+peer, message, false)                                                   // an address that is none
	send(t, in, user, peer, strings.ReplaceAll(encrypted, "Sender-SAE: ", "Sender-SAE: "+mark), false) // another sender

	url := "http://" + web.Addr().String()
	shown := ""
	for _, path := range []string{"/", "/metrics", "/readyz", "/healthz"} {
		a, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		shown += string(body)
		for _, telling := range []string{mark, "bench-key-", "@b.example", "@a.example"} {
			if i := bytes.Index(body, []byte(telling)); i >= 0 {
				t.Errorf("%s shows %q: %q", path, telling, body[max(0, i-80):min(len(body), i+40)])
			}
		}
	}
	for _, want := range []string{
		`qkdmail_messages_total{direction="encrypt",outcome="encrypted",peer="site-b",suite="AES-256-GCM"} 1`,
		`qkdmail_messages_total{direction="decrypt",outcome="decrypted",peer="site-b",suite="AES-256-GCM"} 1`,
		`qkdmail_refusals_total{direction="decrypt",peer="(none)",reason="not encrypted"} 1`,
		`qkdmail_refusals_total{direction="encrypt",peer="(none)",reason="bare line end"} 1`,
		`qkdmail_refusals_total{direction="decrypt",peer="(none)",reason="sae"} 1`,
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("it did not happen: %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(shown) {
			if strings.HasPrefix(line, "qkdmail_messages_total") || strings.HasPrefix(line, "qkdmail_refusals_total") && !strings.HasSuffix(line, " 0\n") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

const bothWays = `
[[listener]]
name = "out"
direction = "encrypt"
address = "127.0.0.1:0"
next_hop = "hop"

[[listener]]
name = "in"
direction = "decrypt"
address = "127.0.0.1:0"
next_hop = "hop"

[[next_hop]]
name = "hop"
address = "HOP"

[km]
url = "mock:"
pool = false

[[peer]]
name = "site-b"
domains = ["b.example"]

[[rule]]
domain = "default"
peer = "site-b"
suite = "aes-256-gcm"
`

// An inbox keeps the messages delivered to it.
type inbox struct {
	mu       sync.Mutex
	messages []string
}

func (i *inbox) take(r io.Reader) {
	b, _ := io.ReadAll(r)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.messages = append(i.messages, string(b))
}

func (i *inbox) last(t *testing.T) string {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.messages) == 0 {
		t.Fatal("nothing was delivered")
	}
	return i.messages[len(i.messages)-1]
}

// send hands a message to a listener and checks whether it takes it.
func send(t *testing.T, address, from, to, message string, taken bool) {
	t.Helper()
	c, err := smtpkit.Dial(address, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Conn.Close()
	if err := c.Send(from, to, strings.NewReader(message)); (err == nil) != taken {
		t.Errorf("%s…: %v, want it taken: %v", message[:20], err, taken)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// run runs do until the test ends.
func run(t *testing.T, do func(context.Context)) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { do(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
}
