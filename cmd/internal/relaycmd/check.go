package relaycmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
)

// The states of a finding.
const (
	stateOK      = "ok"
	stateWarning = "warning" // it may be all right once the relay runs
	stateFailed  = "failed"
)

// A finding is one result of "relay --check".
type finding struct {
	What   string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

// findings prints findings and keeps the first failure. The check goes on after a
// failure, but says nothing about the store without a key manager.
type findings struct {
	out    io.Writer
	asJSON bool
	first  error // the first failure
}

func (f *findings) add(what, detail string) { f.print(finding{what, stateOK, detail, ""}) }

// fail adds a failure or a warning. A warning is not an error of the check.
func (f *findings) fail(what, state string, err error) {
	f.print(finding{what, state, terminal.OneLine(err, ""), terminal.Advice(err)})
	if state == stateFailed && f.first == nil {
		f.first = fmt.Errorf("%s: %w", what, err)
	}
}

func (f *findings) print(g finding) {
	if f.asJSON {
		_ = json.NewEncoder(f.out).Encode(g)
		return
	}
	text := terminal.Printable(g.Detail)
	if g.State != stateOK {
		text = strings.ToUpper(g.State) + ": " + text
	}
	if g.Advice != "" {
		text += ": " + g.Advice
	}
	fmt.Fprintf(f.out, "%s: %s\n", g.What, text)
}

// checkAll checks a valid configuration against the world. It changes nothing.
func (r *relayFlags) checkAll(cmd *cobra.Command, cfg *config.Config, log *slog.Logger, addresses []string) error {
	policy, err := cfg.Policy()
	if err != nil {
		return err
	}
	f := &findings{out: cmd.OutOrStdout(), asJSON: r.asJSON}
	f.add("configuration", "good")
	f.hybrid(cfg, policy, time.Now())
	ctx := cmd.Context()
	if base, err := flags.OpenConfigured(cfg, log); err != nil {
		f.fail("key manager", stateFailed, err)
	} else {
		f.keyManager(ctx, cfg, policy, base)
		f.store(ctx, r.store.Or(cfg.Store), base.DeletesOnDelivery(), log)
	}
	f.nextHops(ctx, cfg)
	raised := policy.Raised(r.from, r.headerBytes())
	for _, a := range addresses {
		if err := f.address(raised, a); err != nil {
			return errors.Join(f.first, err)
		}
	}
	return f.first
}

// keyManager asks for each peer's stock of keys. A relay that only decrypts needs none.
func (f *findings) keyManager(ctx context.Context, cfg *config.Config, policy *mailer.Policy, km kmclient.KeyManager) {
	for _, p := range policy.Peers() {
		what := "key manager for peer " + p.Name
		status, err := statusOf(ctx, cfg, km, p)
		if err != nil {
			f.fail(what, stateFailed, err)
			continue
		}
		f.limits(what, cfg, p, status)
		if text, none := stock(status); none && cfg.Does(mailer.DirectionEncrypt) {
			f.fail(what, stateWarning, terminal.Fail(terminal.ExitTempFail, "otherwise check the QKD link", "%s", text))
		} else {
			f.add(what, text)
		}
	}
}

// limits checks a key manager's state, and whether its limits allow pads.
func (f *findings) limits(what string, cfg *config.Config, p *mailer.Peer, status kmclient.Status) {
	if trouble := status.Trouble(); trouble != "" {
		f.fail(what, stateWarning, terminal.Fail(terminal.ExitUnavailable, "check it and the QKD link", "it says that %s", trouble))
	}
	if !cfg.Does(mailer.DirectionEncrypt) {
		return
	}
	switch waits, err := cfg.PadTrouble(p.Name, status); {
	case waits:
		f.fail(what, stateFailed, noPads(err))
	case err != nil:
		f.fail(what, stateWarning, terminal.Fail(terminal.ExitConfig, "compare the limits in qkdmail status with docs/format.md", "%w: AES-256-GCM is used", err))
	}
}

// noPads returns the error for a key manager whose limits allow no pad when a rule
// allows nothing else.
func noPads(err error) error {
	return terminal.Fail(terminal.ExitConfig, `in rules with suite = "otp", use "auto" or "aes-256-gcm"; in triggers, leave it out`, "%w", err)
}

// stock describes a key manager's stock of keys, and reports whether it is empty.
func stock(status kmclient.Status) (text string, none bool) {
	switch {
	case status.OnDemand:
		return "answers, keys are made on demand", false
	case status.StoredKeys == nil:
		return "answers, and does not say how many keys it has", false
	case *status.StoredKeys == 0:
		return "answers, and says that it has no key in stock; some make keys on demand", true
	}
	return fmt.Sprintf("answers, %d keys stored", *status.StoredKeys), false
}

// statusOf asks a key manager for its status.
func statusOf(ctx context.Context, cfg *config.Config, km kmclient.KeyManager, p *mailer.Peer) (kmclient.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.KM.Timeout)
	defer cancel()
	return km.Status(ctx, p.SAE)
}

// checkPads asks for the key manager's limits when the relay starts. It returns an error
// if a rule requires pads and the limits rule them out. It is not an error if the key
// manager does not answer, since a relay can start without one.
func checkPads(ctx context.Context, cfg *config.Config, km kmclient.KeyManager) error {
	policy, err := cfg.Policy()
	if err != nil || !cfg.Does(mailer.DirectionEncrypt) {
		return err
	}
	for _, p := range policy.Peers() {
		status, err := statusOf(ctx, cfg, km, p)
		if err != nil {
			continue
		}
		if waits, err := cfg.PadTrouble(p.Name, status); waits {
			return noPads(err)
		}
	}
	return nil
}

// store checks the store, if it exists already.
func (f *findings) store(ctx context.Context, store flags.Store, needed bool, log *slog.Logger) {
	const what = "key store"
	if err := store.Where(needed); err != nil {
		f.fail(what, stateFailed, err)
		return
	}
	switch {
	case store.Path == flags.NoStore && needed:
		f.fail(what, stateWarning, terminal.Fail(terminal.ExitConfig, "name one in [store], or leave path out", "none: if a message is not delivered at the first attempt, its key is lost"))
		return
	case store.Path == flags.NoStore:
		f.fail(what, stateWarning, terminal.Fail(terminal.ExitConfig, "name one in [store]",
			"none: the key manager keeps the keys, but if it is restored from a backup and hands out a key again, no one notices"))
		return
	}
	detail := store.Shown() + ", can be opened"
	if store.IsFile() {
		detail += "; other relays of this SAE must use the same one"
	}
	opened, err := store.OpenExisting(ctx, nil, keystore.Options{Logger: log})
	switch {
	case err == nil:
		for _, w := range opened.Warnings() {
			f.fail(what, stateWarning, terminal.Fail(terminal.ExitConfig, "", "%s", w))
		}
		err = opened.Close(ctx)
	case errors.Is(err, flags.ErrNoStore):
		detail = strings.Replace(detail, "can be opened", "will be made", 1)
		err = store.CheckKey(log)
	}
	if err != nil {
		f.fail(what, stateFailed, err)
		return
	}
	f.add(what, detail)
}

// nextHops greets the next hops. A failure is only a warning, since they may be set up
// later.
func (f *findings) nextHops(ctx context.Context, cfg *config.Config) {
	for _, n := range cfg.NextHops {
		detail, err := greeting(ctx, n.Address, n.Protocol, "until it listens there, mail waits")
		if err != nil {
			f.fail("next hop "+n.Name, stateWarning, err)
			continue
		}
		f.add("next hop "+n.Name, detail)
	}
}

// checkMessage checks the flags that describe a message.
func (r *relayFlags) checkMessage() error {
	if r.from != "" {
		if err := mailer.CheckAddress(r.from); err != nil {
			return terminal.Usage("--from: %w", err)
		}
	}
	for _, field := range r.headers {
		if name, _, ok := strings.Cut(field, ":"); !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(field, "\r\n") {
			return terminal.Usage("--header: %q is not a field on one line, like 'Sensitivity: company-confidential'", field)
		}
	}
	return nil
}

// headerBytes returns the message header that the flags describe.
func (r *relayFlags) headerBytes() []byte {
	var b strings.Builder
	for _, field := range r.headers {
		b.WriteString(field + "\r\n")
	}
	return []byte(b.String())
}

// address explains what happens to mail for and from an address.
func (f *findings) address(policy *mailer.Policy, address string) error {
	if !f.asJSON {
		return policy.Explain(f.out, address)
	}
	var text strings.Builder
	if err := policy.Explain(&text, address); err != nil {
		return err
	}
	route := policy.Outbound(address)
	explained := struct {
		Address string `json:"address"`
		Encrypt string `json:"encrypt"`
		Peer    string `json:"peer,omitempty"`
		Suite   string `json:"suite,omitempty"`
		Hybrid  bool   `json:"hybrid,omitempty"`
		Rule    string `json:"rule,omitempty"`
		Trigger string `json:"trigger,omitempty"`
		Text    string `json:"explanation"`
	}{Address: address, Encrypt: route.Mode.String(), Rule: route.Rule, Trigger: route.Trigger, Text: text.String()}
	if route.Peer != nil {
		explained.Peer, explained.Suite, explained.Hybrid = route.Peer.Name, string(route.Suite), route.Peer.Hybrid != nil
	}
	return json.NewEncoder(f.out).Encode(explained)
}
