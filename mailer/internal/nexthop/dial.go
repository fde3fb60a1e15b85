package nexthop

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/qkdmail/qkdmail/mailer/internal/deadline"
)

// tlsAgain is how long opportunistic TLS is not tried after it has failed.
const tlsAgain = 10 * time.Minute

// dial makes a new connection. If opportunistic TLS fails, it makes another one without
// TLS: an expired certificate must not stop mail that may go in clear.
func (h *Hop) dial(ctx context.Context) (*conn, error) {
	h.mu.Lock()
	mode := h.opts.TLS
	if mode == TLSOpportunistic && time.Now().Before(h.noTLS) {
		mode = TLSOff
	}
	h.mu.Unlock()
	c, err := h.connect(ctx, mode)
	if failed := (*tlsError)(nil); mode == TLSOpportunistic && errors.As(err, &failed) && ctx.Err() == nil {
		h.opts.Logger.Warn("TLS with the next hop failed; going on without, as tls = \"opportunistic\" allows",
			"next_hop", h.opts.Address, "again_in", tlsAgain, "cause", failed.error)
		h.mu.Lock()
		h.noTLS = time.Now().Add(tlsAgain)
		h.mu.Unlock()
		c, err = h.connect(ctx, TLSOff)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDown, err)
	}
	h.learn(c.offers())
	return c, nil
}

// A tlsError says why TLS could not begin.
type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

func (h *Hop) connect(ctx context.Context, mode TLSMode) (*conn, error) {
	limited, cancel := context.WithTimeout(ctx, h.opts.Connect)
	raw, err := h.opts.Dial(limited, h.opts.Network, h.opts.Address)
	cancel()
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	c, err := h.greet(newConn(deadline.New(raw), &h.opts), mode)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// greet reads the greeting, says hello, begins TLS if that is configured, and
// authenticates.
func (h *Hop) greet(c *conn, mode TLSMode) (*conn, error) {
	r, err := c.reply()
	if err := outcome(r, err, 220); err != nil {
		return nil, err
	}
	c.most = cmp.Or(h.opts.MaxMessages, mostMessages(r.Text()))
	if err := c.hello(); err != nil {
		return nil, err
	}
	secure := mode != TLSOff && c.offered("STARTTLS")
	if mode == TLSRequired && !secure {
		return nil, errors.New("it offers no STARTTLS")
	}
	if secure {
		if c, err = h.startTLS(c); err != nil {
			return nil, &tlsError{err}
		}
		if err := c.hello(); err != nil {
			return nil, err
		}
	}
	if h.opts.User == "" {
		return c, nil
	}
	if !secure {
		return nil, errors.New("no AUTH without TLS")
	}
	if h.opts.Token == nil {
		return c, c.authenticate(h.opts.User, h.opts.Password)
	}
	token, err := h.opts.Token()
	if err != nil {
		return nil, err
	}
	return c, c.authorize(h.opts.User, token)
}

// startTLS begins TLS, RFC 3207. If the next hop says anything before TLS has begun, that
// is an error, and what it has offered no longer counts (§4.2).
func (h *Hop) startTLS(c *conn) (*conn, error) {
	r, err := c.command("STARTTLS")
	if err := outcome(r, err, 220); err != nil {
		return nil, err
	}
	if c.spoken() {
		return nil, errors.New("it speaks before TLS has begun")
	}
	config := h.opts.TLSConfig.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(h.opts.Address)
	}
	config.InsecureSkipVerify = h.opts.TLS != TLSRequired
	if err := c.SetDeadline(time.Now().Add(h.opts.Command)); err != nil {
		return nil, err
	}
	secure := tls.Client(c.Conn, config)
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	next := newConn(secure, c.opts)
	next.most = c.most
	return next, nil
}

// mostMessages returns how many messages go through one connection to a next hop with
// this greeting. Exim only queues what comes after the tenth
// (smtp_accept_queue_per_connection).
func mostMessages(greeting string) int {
	if strings.Contains(greeting, "Exim") {
		return 10
	}
	return 1000
}

// authenticate is AUTH PLAIN, RFC 4954 and RFC 4616.
func (c *conn) authenticate(user, password string) error {
	_, initial, err := sasl.NewPlainClient("", user, password).Start()
	if err != nil {
		return err
	}
	r, err := c.command("AUTH PLAIN " + base64.StdEncoding.EncodeToString(initial))
	return outcome(r, err, 235)
}

// authorize is AUTH with an OAuth 2.0 token: OAUTHBEARER, RFC 7628, or else XOAUTH2,
// which Microsoft has. A refusal arrives as a challenge, and the connection is given up.
func (c *conn) authorize(user, token string) error {
	mechanism, initial := "XOAUTH2", []byte("user="+user+"\x01auth=Bearer "+token+"\x01\x01")
	if slices.Contains(strings.Fields(strings.ToUpper(c.extensions["AUTH"])), sasl.OAuthBearer) {
		var err error
		if mechanism, initial, err = sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: user, Token: token}).Start(); err != nil {
			return err
		}
	}
	r, err := c.command("AUTH " + mechanism + " " + base64.StdEncoding.EncodeToString(initial))
	if err == nil && r.Code == 334 {
		return errors.New("it refuses the token of auth_token_file: it may have expired")
	}
	return outcome(r, err, 235)
}
