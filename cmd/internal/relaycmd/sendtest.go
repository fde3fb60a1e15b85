package relaycmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
)

// A sendTest holds the flags of "send-test".
type sendTest struct {
	*flags.Globals
	config  string
	via     string
	from    string
	report  bool
	postfix string
	wait    time.Duration
	asJSON  bool
}

func newSendTest(g *flags.Globals) *cobra.Command {
	s := &sendTest{Globals: g}
	cmd := &cobra.Command{
		Use:   "send-test [flags] ADDRESS",
		Short: "Send a message through the whole path and report each hop",
		Long: `Send a message through the whole path and report each hop: the configuration, what it
says about ADDRESS, the key manager, the relay's listeners, its next hops, the mail
server that takes the message (--via), and that server's queue, if it is Postfix on
this machine.

The other site can't be seen from here. The message says what to look for there;
--report asks the mail servers for a delivery report (RFC 3461) to the sender.

The command stops at the first hop that fails, and says what to do. A step that can't
be taken is "skipped": without Postfix on this machine, for example, there is no queue
to look at.`,
		Example: `  qkdmail send-test bob@b.example
  qkdmail send-test --from alice@a.example --report bob@b.example
  qkdmail send-test --via relay bob@b.example`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return terminal.Usage("one ADDRESS is needed, like bob@b.example")
			}
			if err := mailer.CheckAddress(args[0]); err != nil {
				return terminal.Usage("%w", err)
			}
			return s.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.config, "config", "c", "/etc/qkdmail/relay.toml", "the relay's configuration")
	flags.OfferConfig(cmd)
	f.StringVar(&s.via, "via", "127.0.0.1:10024", "mail server that takes the message, or \"relay\" for the encrypting listener itself")
	flags.OfferValues(cmd, "via", "relay")
	f.StringVar(&s.from, "from", "", "sender (default: postmaster at the hostname of the configuration)")
	f.BoolVar(&s.report, "report", false, "ask for a delivery report to the sender")
	f.StringVar(&s.postfix, "postfix", "", "configuration folder of the Postfix that takes the message (default: Postfix's own default)")
	flags.OfferFolders(cmd, "postfix")
	f.DurationVar(&s.wait, "wait", 30*time.Second, "how long to wait until the message has left Postfix's queue")
	f.BoolVar(&s.asJSON, "json", false, "print each hop as a line of JSON")
	return cmd
}

// A hop is one line of the report.
type hop struct {
	Hop     string  `json:"hop"`
	OK      bool    `json:"ok"`
	Skipped bool    `json:"skipped,omitempty"`
	Millis  float64 `json:"milliseconds"`
	Detail  string  `json:"detail"`
	Advice  string  `json:"advice,omitempty"`
}

// errSkipped means that a step has nothing to test here; its detail says why.
var errSkipped = errors.New("skipped")

// A testStep tests one hop.
type testStep struct {
	name string
	do   func(context.Context) (detail string, err error)
}

func (s *sendTest) run(cmd *cobra.Command, address string) error {
	t := testMail{postfix: s.postfix}
	steps := []testStep{{"configuration", func(ctx context.Context) (_ string, err error) {
		t.cfg, err = terminal.Await(ctx, func() (*config.Config, error) { return config.Load(s.config) })
		if errors.Is(err, fs.ErrNotExist) {
			return "", terminal.Fail(terminal.ExitConfig, "name it with --config, or make one with qkdmail init", "%w", err)
		}
		if err == nil {
			err = t.cfg.CheckFiles()
		}
		return s.config, flags.BadConfig(err)
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

// step tests a hop and prints its line.
func (s *sendTest) step(cmd *cobra.Command, step testStep) error {
	start := time.Now()
	detail, err := step.do(cmd.Context())
	skipped := errors.Is(err, errSkipped)
	if skipped {
		err = nil
	}
	h := hop{Hop: step.name, OK: err == nil, Skipped: skipped, Millis: float64(time.Since(start).Microseconds()) / 1000, Detail: detail}
	mark := "ok"
	switch {
	case skipped:
		mark = "skipped"
	case err != nil:
		mark, h.Detail, h.Advice = "FAILED", terminal.OneLine(err, ""), terminal.Advice(err)
	}
	out := cmd.OutOrStdout()
	if s.asJSON {
		if err := json.NewEncoder(out).Encode(h); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "%-7s %-28s %8.1f ms  %s\n", mark, h.Hop, h.Millis, terminal.Printable(h.Detail))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", step.name, err)
	}
	return nil
}

// path returns the steps after the configuration and the policy.
func (s *sendTest) path(t *testMail) []testStep {
	steps := []testStep{{"key manager", func(ctx context.Context) (string, error) { return t.keys(ctx) }}}
	for _, l := range t.cfg.Listeners {
		steps = append(steps, testStep{"listener " + l.Name, func(ctx context.Context) (string, error) {
			return greeting(ctx, l.Address, l.Protocol, "the relay must be running: systemctl status qkdmail-relay")
		}})
	}
	for _, n := range t.cfg.NextHops {
		steps = append(steps, testStep{"next hop " + n.Name, func(ctx context.Context) (string, error) {
			return greeting(ctx, n.Address, n.Protocol, "the mail server must listen there: see docs/postfix.md")
		}})
	}
	name, address, protocol := "mail server", s.via, config.SMTP
	if s.via == "relay" {
		name, address, protocol = "relay", t.encrypting.Address, t.encrypting.Protocol
	}
	steps = append(steps, testStep{name, func(ctx context.Context) (string, error) { return t.send(ctx, address, protocol, s.report) }})
	if s.via != "relay" {
		steps = append(steps, testStep{"queue", func(ctx context.Context) (string, error) { return t.queue(ctx, s.wait) }})
	}
	return steps
}
