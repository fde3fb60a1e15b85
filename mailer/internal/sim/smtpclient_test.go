package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// A reply is what a mail system answers for a recipient; code 0: nothing came.
type reply struct {
	code int
	text string
}

func (r reply) String() string { return strings.TrimSpace(fmt.Sprintf("%d %s", r.code, r.text)) }

// A delivery is one transaction, and what came of it.
type delivery struct {
	from  string
	rcpts []string
	data  []byte

	answers map[string]reply
	dot     bool // the whole message was sent
}

// A client is one connection that delivers, with the time-outs of Postfix.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	lmtp bool
}

// deliver makes one transaction at an address.
func (d *delivery) deliver(h *host, address string, lmtp bool) {
	d.answers = map[string]reply{}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	conn, err := h.DialContext(ctx, "tcp", address)
	cancel()
	if err != nil {
		d.all(reply{0, "connect: " + err.Error()})
		return
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 1<<10), lmtp: lmtp}
	defer conn.Close()
	d.run(c, h.name)
}

func (d *delivery) run(c *client, name string) {
	hello := "EHLO "
	if c.lmtp {
		hello = "LHLO "
	}
	for _, command := range []string{"", hello + name + ".example", "MAIL FROM:<" + d.from + ">"} {
		if r := c.command(command, 5*time.Minute); r.code/100 != 2 {
			d.all(r)
			return
		}
	}
	var taken []string
	for _, rcpt := range d.rcpts {
		r := c.command("RCPT TO:<"+rcpt+">", 5*time.Minute)
		if r.code == 0 {
			d.all(r)
			return
		}
		if r.code/100 == 2 {
			taken = append(taken, rcpt)
		} else {
			d.answers[rcpt] = r
		}
	}
	if len(taken) > 0 {
		d.body(c, taken)
	}
	c.command("QUIT", time.Minute)
}

// body sends the message to the recipients that were accepted.
func (d *delivery) body(c *client, taken []string) {
	if r := c.command("DATA", 2*time.Minute); r.code != 354 {
		d.all(r)
		return
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(3 * time.Minute))
	if _, err := c.conn.Write(dotted(d.data)); err != nil {
		d.all(reply{0, "body: " + err.Error()})
		return
	}
	d.dot = true
	if !c.lmtp {
		d.all(c.command("", 10*time.Minute))
		return
	}
	for _, rcpt := range taken {
		r := c.command("", 10*time.Minute)
		if r.code == 0 { // what comes later would be taken for another recipient's answer
			d.all(r)
			return
		}
		d.answers[rcpt] = r
	}
}

// all sets the answer for the recipients that have none yet.
func (d *delivery) all(r reply) {
	for _, rcpt := range d.rcpts {
		if _, ok := d.answers[rcpt]; !ok {
			d.answers[rcpt] = r
		}
	}
}

// command sends a command, unless it is empty, and reads the reply.
func (c *client) command(command string, within time.Duration) reply {
	_ = c.conn.SetDeadline(time.Now().Add(within))
	if command != "" {
		if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
			return reply{0, "write: " + err.Error()}
		}
	}
	var text []string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return reply{0, "read: " + err.Error()}
		}
		line = strings.TrimRight(line, "\r\n")
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil {
			return reply{0, "not SMTP: " + line}
		}
		text = append(text, line[min(4, len(line)):])
		if len(line) < 4 || line[3] != '-' {
			return reply{code, strings.Join(text, " ")}
		}
	}
}

// dotted returns a message as DATA carries it, with the final dot.
func dotted(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(data, []byte(".")) {
		data = append([]byte("."), data...)
	}
	return append(bytes.TrimSuffix(data, []byte("\r\n")), "\r\n.\r\n"...)
}
