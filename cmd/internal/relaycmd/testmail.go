package relaycmd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A testMail is a test message and its route.
type testMail struct {
	cfg        *config.Config
	peer       *mailer.Peer
	encrypting config.Listener
	address    string
	from       string
	subject    string
	postfix    string          // Postfix's configuration folder; "" for its own
	before     map[string]bool // queue IDs before the test
	unseen     error           // why the queue can't be read
}

// route looks up what happens to mail for the address.
func (t *testMail) route(address string) (string, error) {
	policy, err := t.cfg.Policy()
	if err != nil {
		return "", err
	}
	route := policy.Outbound(address)
	if route.Peer == nil {
		return "", terminal.Fail(terminal.ExitConfig, "add a [[rule]] for its domain, or name another address", "mail for %s is not encrypted", address)
	}
	t.peer = route.Peer
	for _, l := range t.cfg.Listeners {
		if l.Direction == mailer.DirectionEncrypt {
			t.encrypting = l
			return fmt.Sprintf("encrypted for peer %s, suite %s", route.Peer.Name, route.SuiteText()), nil
		}
	}
	return "", terminal.Fail(terminal.ExitConfig, "add a [[listener]] with direction = \"encrypt\"", "no listener encrypts")
}

// keys asks the key manager for its stock.
func (t *testMail) keys(ctx context.Context) (string, error) {
	km, err := flags.OpenConfigured(t.cfg, nil)
	if err != nil {
		return "", err
	}
	status, err := statusOf(ctx, t.cfg, km, t.peer)
	if err != nil {
		return "", err
	}
	text, _ := stock(status)
	return text, nil
}

// hopTimeout is how long a server may take for its whole part.
const hopTimeout = 10 * time.Minute // Postfix and the relay answer within this time

// dial connects to a server and greets it.
func dial(ctx context.Context, address string, protocol config.Protocol) (*smtp.Client, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	c := smtp.NewClient(conn)
	if protocol == config.LMTP {
		c = smtp.NewClientLMTP(conn)
	}
	c.CommandTimeout = 30 * time.Second
	if err := c.Hello("localhost"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// greeting checks that a server speaks SMTP or LMTP.
func greeting(ctx context.Context, address string, protocol config.Protocol, hint string) (string, error) {
	c, err := dial(ctx, address, protocol)
	if err != nil {
		return "", terminal.Fail(terminal.ExitUnavailable, hint, "%s: %w", address, err)
	}
	defer c.Close()
	_ = c.Quit()
	return fmt.Sprintf("%s answers (%s)", address, protocol), nil
}

// send sends the message to a server.
func (t *testMail) send(ctx context.Context, address string, protocol config.Protocol, report bool) (string, error) {
	t.remember(ctx)
	ctx, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	c, err := dial(ctx, address, protocol)
	if err != nil {
		return "", terminal.Fail(terminal.ExitUnavailable, "name your mail server with --via, or use --via relay", "%s: %w", address, err)
	}
	defer c.Close()
	answer, err := t.transaction(c, protocol, report)
	if err != nil {
		code := terminal.ExitUnavailable
		if refused, ok := errors.AsType[*smtp.SMTPError](err); ok && refused.Temporary() {
			code = terminal.ExitTempFail
		}
		return "", terminal.Fail(code, "see the log of the mail server and of the relay", "%s: %w", address, err)
	}
	_ = c.Quit()
	return fmt.Sprintf("%s took the message: %s", address, cmp.Or(answer, "250")), nil
}

func (t *testMail) transaction(c *smtp.Client, protocol config.Protocol, report bool) (string, error) {
	var rcpt smtp.RcptOptions
	if offered, _ := c.Extension("DSN"); report {
		if !offered {
			return "", errors.New("no delivery reports are offered (DSN): leave out --report")
		}
		rcpt.Notify = []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure}
	}
	if err := c.Mail(t.from, nil); err != nil {
		return "", err
	}
	if err := c.Rcpt(t.address, &rcpt); err != nil {
		return "", err
	}
	w, err := c.Data()
	if err != nil {
		return "", err
	}
	if _, err := w.Write(t.message()); err != nil {
		return "", err
	}
	if protocol == config.LMTP {
		answers, err := w.CloseWithLMTPResponse()
		if r := answers[t.address]; r != nil {
			return r.StatusText, err
		}
		return "", err
	}
	r, err := w.CloseWithResponse()
	if err != nil {
		return "", err
	}
	return r.StatusText, nil
}

// message returns the message.
func (t *testMail) message() []byte {
	id := strings.ToLower(rand.Text())
	t.subject = "qkdmail test " + id[:8]
	text := fmt.Sprintf(`From: <%s>
To: <%s>
Subject: %s
Date: %s
Message-ID: <%s@%s>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

This message was sent by "qkdmail send-test" at %s, to be encrypted
for the peer %s. If you can read it, and there is a field Qkdmail-Result with
decrypt=pass above it, mail from there arrives encrypted and is restored.
`, t.from, t.address, t.subject, time.Now().Format(time.RFC1123Z), id, t.cfg.Hostname, t.cfg.Hostname, t.peer.Name)
	return []byte(strings.ReplaceAll(text, "\n", "\r\n"))
}

// queue waits until the message has left Postfix's queue, which it passes before and
// after the relay. If it stays, the error says why. The error is errSkipped if there is
// no queue to look at.
func (t *testMail) queue(ctx context.Context, wait time.Duration) (string, error) {
	if t.unseen != nil {
		if errors.Is(t.unseen, exec.ErrNotFound) {
			return "there is no Postfix here, so there is no queue to look at", errSkipped
		}
		return "if Postfix takes the message, name its configuration with --postfix: " + t.unseen.Error(), errSkipped
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		waiting, err := t.waiting(ctx)
		if err != nil && ctx.Err() == nil {
			return "", terminal.Fail(terminal.ExitUnavailable, "see mailq", "%w", err)
		}
		reason, id := "", ""
		for _, m := range waiting {
			switch {
			case t.before[m.ID]:
			case m.Sender != t.from:
				return "", terminal.Fail(terminal.ExitUnavailable, "see the log of the mail server", "the message came back: %s is a bounce to %s", m.ID, t.from)
			default:
				id, reason = m.ID, cmp.Or(m.reason(), reason)
			}
		}
		switch {
		case err == nil && id == "":
			return "empty again: the other site's mail server has taken the message, or has refused it, in which case " + t.from + " has a bounce", nil
		case reason != "":
			return "", terminal.Fail(terminal.ExitTempFail, "Postfix will try again", "%s waits: %s", id, reason)
		}
		select {
		case <-ctx.Done():
			return "", terminal.Fail(terminal.ExitTempFail, "see mailq", "the message is still in the queue after %v", wait)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// A queued is a message in Postfix's queue, in the format of postqueue(1).
type queued struct {
	ID         string            `json:"queue_id"`
	Sender     string            `json:"sender"`
	Recipients []queuedRecipient `json:"recipients"`
}

type queuedRecipient struct {
	Address string `json:"address"`
	Reason  string `json:"delay_reason"`
}

// bounceSender is the null sender in the output of postqueue(1).
const bounceSender = "MAILER-DAEMON"

func (q *queued) reason() string {
	for _, r := range q.Recipients {
		if r.Reason != "" {
			return r.Reason
		}
	}
	return ""
}

// remember records what is in the queue before the test.
func (t *testMail) remember(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	waiting, err := t.waiting(ctx)
	t.unseen, t.before = err, map[string]bool{}
	for _, m := range waiting {
		t.before[m.ID] = true
	}
}

// waiting returns the messages in Postfix's queue from the sender to the recipient, and
// bounces to the sender.
func (t *testMail) waiting(ctx context.Context) ([]queued, error) {
	args := []string{"-j"}
	if t.postfix != "" {
		args = []string{"-c", t.postfix, "-j"}
	}
	out, err := exec.CommandContext(ctx, "postqueue", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("postqueue -j: %w", err)
	}
	return t.ours(out), nil
}

// ours returns the messages in the output of postqueue -j that belong to the test.
func (t *testMail) ours(queue []byte) (found []queued) {
	for line := range bytes.Lines(queue) {
		var m queued
		if json.Unmarshal(line, &m) != nil {
			continue
		}
		to := map[string]string{t.from: t.address, bounceSender: t.from}[m.Sender]
		if slices.ContainsFunc(m.Recipients, func(r queuedRecipient) bool { return r.Address == to }) {
			found = append(found, m)
		}
	}
	return found
}
