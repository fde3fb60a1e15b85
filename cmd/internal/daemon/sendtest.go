package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/spf13/cobra"
)

// sendTest are the flags of "send-test".
type sendTest struct {
	*cli.Globals
	config  string
	via     string
	from    string
	report  bool
	postfix string
	wait    time.Duration
	asJSON  bool
}

func newSendTest(g *cli.Globals) *cobra.Command {
	s := &sendTest{Globals: g}
	cmd := &cobra.Command{
		Use:   "send-test [flags] ADDRESS",
		Short: cli.ShortSendTest,
		Long: `Send one message through the whole path, and report each hop: the
configuration, what it says about ADDRESS, the key manager, the relay's
listeners, its next hops, the mail server that takes the message (--via), and
that server's queue, where it is Postfix on this machine.

What happens at the other site is not seen from here. The message says what to
look for there; --report asks the mail servers for a delivery report (RFC 3461)
to the sender's address.

It stops at the first hop that fails, and says what to do.`,
		Example: `  qkdmail send-test bob@b.example
  qkdmail send-test --from alice@a.example --report bob@b.example
  qkdmail send-test --via relay bob@b.example`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !strings.Contains(args[0], "@") {
				return cli.Usage("one ADDRESS, as bob@b.example")
			}
			return s.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.config, "config", "c", "/etc/qkdmail/relay.toml", "the relay's configuration")
	f.StringVar(&s.via, "via", "127.0.0.1:10024", "mail server that takes the message, or relay: straight into its encrypting listener")
	f.StringVar(&s.from, "from", "", "sender (default: postmaster at the configuration's hostname)")
	f.BoolVar(&s.report, "report", false, "ask for a delivery report to the sender")
	f.StringVar(&s.postfix, "postfix", "", "folder of the configuration of the Postfix that takes the message (default: Postfix's own)")
	f.DurationVar(&s.wait, "wait", 30*time.Second, "for the message to leave Postfix's queue")
	f.BoolVar(&s.asJSON, "json", false, "print JSON, a line for each hop")
	return cmd
}

// A hop is one line of the report.
type hop struct {
	Hop    string  `json:"hop"`
	OK     bool    `json:"ok"`
	Millis float64 `json:"milliseconds"`
	Detail string  `json:"detail"`
	Advice string  `json:"advice,omitempty"`
}

// A step finds out about one hop.
type testStep struct {
	name string
	do   func(context.Context) (detail string, err error)
}

func (s *sendTest) run(cmd *cobra.Command, address string) error {
	t := testMail{postfix: s.postfix}
	steps := []testStep{{"configuration", func(context.Context) (_ string, err error) {
		t.cfg, err = mailer.LoadConfig(s.config)
		if errors.Is(err, fs.ErrNotExist) {
			return "", cli.Fail(cli.ExitConfig, "name it with --config, or make one with qkdmail init", "%w", err)
		}
		if err == nil {
			err = t.cfg.CheckFiles()
		}
		return s.config, badConfig(err)
	}}, {"policy", func(context.Context) (string, error) { return t.route(address) }}}
	for _, step := range steps {
		if err := s.step(cmd, step); err != nil {
			return err
		}
	}
	t.address, t.from = address, cmp.Or(s.from, "postmaster@"+t.cfg.Hostname)
	for _, step := range s.path(&t) {
		if err := s.step(cmd, step); err != nil {
			return err
		}
	}
	if !s.asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "\nAt the other site, %s should now have a message with the subject %q\nand a field Qkdmail-Result with decrypt=pass above it.\n", address, t.subject)
	}
	return nil
}

// step carries out a step and prints its line.
func (s *sendTest) step(cmd *cobra.Command, step testStep) error {
	start := time.Now()
	detail, err := step.do(cmd.Context())
	h := hop{Hop: step.name, OK: err == nil, Millis: float64(time.Since(start).Microseconds()) / 1000, Detail: detail}
	if err != nil {
		h.Detail, h.Advice = cli.OneLine(err, ""), cli.Advice(err)
	}
	out := cmd.OutOrStdout()
	switch {
	case s.asJSON:
		if err := json.NewEncoder(out).Encode(h); err != nil {
			return err
		}
	default:
		mark := "ok"
		if !h.OK {
			mark = "FAILED"
		}
		fmt.Fprintf(out, "%-7s %-28s %8.1f ms  %s\n", mark, h.Hop, h.Millis, cli.Printable(h.Detail))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", step.name, err)
	}
	return nil
}

// path returns the steps behind the configuration.
func (s *sendTest) path(t *testMail) []testStep {
	steps := []testStep{{"key manager", func(ctx context.Context) (string, error) { return t.keys(ctx) }}}
	for _, l := range t.cfg.Listeners {
		steps = append(steps, testStep{"listener " + l.Name, func(ctx context.Context) (string, error) {
			return greeting(ctx, l.Address, l.Protocol, "the relay must run: systemctl status qkdmail-relay")
		}})
	}
	for _, n := range t.cfg.NextHops {
		steps = append(steps, testStep{"next hop " + n.Name, func(ctx context.Context) (string, error) {
			return greeting(ctx, n.Address, n.Protocol, "the mail server must listen there: see docs/postfix.md")
		}})
	}
	name, address, protocol := "mail server", s.via, mailer.ProtocolSMTP
	if s.via == "relay" {
		name, address, protocol = "relay", t.encrypting.Address, t.encrypting.Protocol
	}
	steps = append(steps, testStep{name, func(ctx context.Context) (string, error) { return t.send(ctx, address, protocol, s.report) }})
	if s.via != "relay" {
		steps = append(steps, testStep{"queue", func(ctx context.Context) (string, error) { return t.queue(ctx, s.wait) }})
	}
	return steps
}

// A testMail is the message on its way.
type testMail struct {
	cfg        *mailer.Config
	peer       *mailer.Peer
	encrypting mailer.ListenerConfig
	address    string
	from       string
	subject    string
	postfix    string          // folder of Postfix's configuration; "": its own
	before     map[string]bool // IDs of what was in the queue
	unseen     error           // why the queue can't be looked at
}

// route finds out what happens to mail for the address.
func (t *testMail) route(address string) (string, error) {
	policy, err := mailer.NewPolicy(t.cfg)
	if err != nil {
		return "", err
	}
	route := policy.Outbound(address)
	if route.Peer == nil {
		return "", cli.Fail(cli.ExitConfig, "add a [[rule]] for its domain, or name another address", "mail for %s is not encrypted", address)
	}
	t.peer = route.Peer
	for _, l := range t.cfg.Listeners {
		if l.Direction == mailer.DirectionEncrypt {
			t.encrypting = l
			return fmt.Sprintf("encrypted for peer %s, suite %s", route.Peer.Name, route.Suite), nil
		}
	}
	return "", cli.Fail(cli.ExitConfig, "add a [[listener]] with direction = \"encrypt\"", "no listener encrypts")
}

// keys asks the key manager for its stock.
func (t *testMail) keys(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.KM.Timeout)
	defer cancel()
	km, err := openBase(ctx, t.cfg, nil)
	if err != nil {
		return "", err
	}
	defer closeBase(km)
	status, err := km.Status(ctx, t.peer.SAE)
	switch {
	case err != nil:
		return "", err
	case status.OnDemand:
		return "answers, keys are made on demand", nil
	case status.StoredKeys == 0:
		return "", fmt.Errorf("%w: it has none in stock for peer %s", kmclient.ErrKeyExhausted, t.peer.Name)
	}
	return fmt.Sprintf("answers, %d keys stored", status.StoredKeys), nil
}

// hopTimeout bounds what one server may take for the whole of its part.
const hopTimeout = 10 * time.Minute // Postfix and the relay answer within that

// dial connects to a server and greets it.
func dial(ctx context.Context, address string, protocol mailer.Protocol) (*smtp.Client, error) {
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
	if protocol == mailer.ProtocolLMTP {
		c = smtp.NewClientLMTP(conn)
	}
	c.CommandTimeout = 30 * time.Second
	if err := c.Hello("localhost"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// greeting finds out whether a server talks SMTP or LMTP.
func greeting(ctx context.Context, address string, protocol mailer.Protocol, hint string) (string, error) {
	c, err := dial(ctx, address, protocol)
	if err != nil {
		return "", cli.Fail(cli.ExitUnavailable, hint, "%s: %w", address, err)
	}
	defer c.Close()
	_ = c.Quit()
	return fmt.Sprintf("%s answers (%s)", address, protocol), nil
}

// send hands the message over.
func (t *testMail) send(ctx context.Context, address string, protocol mailer.Protocol, report bool) (string, error) {
	t.remember(ctx)
	ctx, cancel := context.WithTimeout(ctx, hopTimeout)
	defer cancel()
	c, err := dial(ctx, address, protocol)
	if err != nil {
		return "", cli.Fail(cli.ExitUnavailable, "name your mail server with --via, or use --via relay", "%s: %w", address, err)
	}
	defer c.Close()
	answer, err := t.transaction(c, protocol, report)
	if err != nil {
		code := cli.ExitUnavailable
		if refused, ok := errors.AsType[*smtp.SMTPError](err); ok && refused.Temporary() {
			code = cli.ExitTempFail
		}
		return "", cli.Fail(code, "see the log of the mail server and of the relay", "%s: %w", address, err)
	}
	_ = c.Quit()
	return fmt.Sprintf("%s took it: %s", address, cmp.Or(answer, "250")), nil
}

func (t *testMail) transaction(c *smtp.Client, protocol mailer.Protocol, report bool) (string, error) {
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
	if protocol == mailer.ProtocolLMTP {
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

// message makes the message.
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

// queue waits until the message has left Postfix's queue, which it is in before
// the relay and behind it, or tells why it has not.
func (t *testMail) queue(ctx context.Context, wait time.Duration) (string, error) {
	if t.unseen != nil {
		return "not looked at, name Postfix's configuration with --postfix: " + t.unseen.Error(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		waiting, err := t.waiting(ctx)
		if err != nil && ctx.Err() == nil {
			return "", cli.Fail(cli.ExitUnavailable, "see mailq", "%w", err)
		}
		reason, id := "", ""
		for _, m := range waiting {
			if !t.before[m.ID] {
				id, reason = m.ID, cmp.Or(m.reason(), reason)
			}
		}
		switch {
		case err == nil && id == "":
			return "empty again: the message is encrypted, and the other site's mail server has it", nil
		case reason != "":
			return "", cli.Fail(cli.ExitTempFail, "it is tried again from there", "%s waits: %s", id, reason)
		}
		select {
		case <-ctx.Done():
			return "", cli.Fail(cli.ExitTempFail, "see mailq", "the message is still in the queue after %v", wait)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// A queued is a message in Postfix's queue, as postqueue(1) has it.
type queued struct {
	ID         string `json:"queue_id"`
	Sender     string `json:"sender"`
	Recipients []struct {
		Address string `json:"address"`
		Reason  string `json:"delay_reason"`
	} `json:"recipients"`
}

func (q *queued) reason() string {
	for _, r := range q.Recipients {
		if r.Reason != "" {
			return r.Reason
		}
	}
	return ""
}

// remember notes what the queue has for the recipient before the test.
func (t *testMail) remember(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	waiting, err := t.waiting(ctx)
	t.unseen, t.before = err, map[string]bool{}
	for _, m := range waiting {
		t.before[m.ID] = true
	}
}

// waiting asks Postfix for messages from the sender to the recipient.
func (t *testMail) waiting(ctx context.Context) (found []queued, err error) {
	args := []string{"-j"}
	if t.postfix != "" {
		args = []string{"-c", t.postfix, "-j"}
	}
	out, err := exec.CommandContext(ctx, "postqueue", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("postqueue -j: %w", err)
	}
	for line := range bytes.Lines(out) {
		var m queued
		if json.Unmarshal(line, &m) != nil || m.Sender != t.from {
			continue
		}
		for _, r := range m.Recipients {
			if r.Address == t.address {
				found = append(found, m)
				break
			}
		}
	}
	return found, nil
}
