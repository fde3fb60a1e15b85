package mailer

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A boundedConn bounds what go-smtp's client does not: the time of each write
// of DATA, and the octets of a reply, of which any number of lines would be
// collected.
type boundedConn struct {
	net.Conn
	upload time.Duration
	heard  int // octets since the last write
}

// maxReplies is for the replies to a command. LMTP has one for each recipient
// behind the final dot.
const maxReplies = 1 << 20

var errLongReply = errors.New("a reply without end")

func (c *boundedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.upload)); err != nil {
		return 0, err
	}
	c.heard = 0
	return c.Conn.Write(p)
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.heard > maxReplies {
		return 0, errLongReply
	}
	n, err := c.Conn.Read(p)
	c.heard += n
	return n, err
}

// dial makes a new connection.
func (h *NextHop) dial(ctx context.Context) (*hopConn, error) {
	conn, err := (&net.Dialer{Timeout: h.opts.Connect}).DialContext(ctx, cmp.Or(h.opts.Network, "tcp"), h.opts.Address)
	if err != nil {
		return nil, hopDown(err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c, err := h.greet(&boundedConn{Conn: newPatientConn(conn), upload: h.opts.Upload})
	if err != nil {
		_ = conn.Close()
		return nil, hopDown(err)
	}
	h.learn(c)
	return c, nil
}

// greet says hello, in TLS where that is asked for, and authenticates.
func (h *NextHop) greet(conn net.Conn) (*hopConn, error) {
	c, err := h.hello(conn)
	if err != nil {
		return nil, err
	}
	secure := false
	if h.opts.TLS != TLSOff {
		if secure, _ = c.Extension("STARTTLS"); secure {
			tlsConn, err := h.startTLS(conn)
			if err != nil {
				return nil, err
			}
			if c, err = h.hello(&greetedConn{Conn: tlsConn}); err != nil {
				return nil, err
			}
		} else if h.opts.TLS == TLSRequired {
			return nil, errors.New("it offers no STARTTLS")
		}
	}
	if h.opts.User != "" {
		if !secure {
			return nil, errors.New("no AUTH without TLS")
		}
		if err := c.Auth(sasl.NewPlainClient("", h.opts.User, h.opts.Password)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// hello takes the greeting and says EHLO or LHLO.
func (h *NextHop) hello(conn net.Conn) (*hopConn, error) {
	newClient := smtp.NewClient
	if h.opts.LMTP {
		newClient = smtp.NewClientLMTP
	}
	wire := newHopWire(conn, h.opts.Command)
	c := &hopConn{Client: newClient(wire), wire: wire, fresh: true}
	c.CommandTimeout, c.SubmissionTimeout = h.opts.Command, h.opts.AfterDot
	return c, c.Hello(h.opts.Hostname)
}

// startTLS begins TLS behind go-smtp's back: its client does that over SMTP
// only, and not after it was told our name. What the other side sent before
// TLS is forgotten with the old client (RFC 3207 §4.2).
func (h *NextHop) startTLS(conn net.Conn) (net.Conn, error) {
	_ = conn.SetDeadline(time.Now().Add(h.opts.Command))
	if _, err := io.WriteString(conn, "STARTTLS\r\n"); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	if _, _, err := textproto.NewReader(in).ReadResponse(220); err != nil {
		return nil, err
	}
	if in.Buffered() > 0 {
		return nil, errors.New("it speaks before TLS does")
	}
	config := h.opts.TLSConfig.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(h.opts.Address)
	}
	config.InsecureSkipVerify = h.opts.TLS != TLSRequired
	tlsConn := tls.Client(conn, config)
	return tlsConn, tlsConn.Handshake()
}

// A greetedConn begins with a greeting, which go-smtp's client expects, and
// which there is none of after STARTTLS.
type greetedConn struct {
	net.Conn
	greeted bool
}

func (c *greetedConn) Read(p []byte) (int, error) {
	if !c.greeted {
		c.greeted = true
		return copy(p, "220 \r\n"), nil
	}
	return c.Conn.Read(p)
}

// hopDown is the refusal where the next hop can't be reached.
func hopDown(err error) *refusal {
	return refuse(451, smtp.EnhancedCode{4, 4, 1}, "next hop down", "The next hop can't be reached, try again later").
		because(fmt.Errorf("next hop: %w", err))
}
