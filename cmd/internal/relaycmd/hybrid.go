package relaycmd

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// hybrid reports this site's X-Wing keys, and which mail is hybrid.
func (f *findings) hybrid(cfg *config.Config, policy *mailer.Policy, now time.Time) {
	own, err := cfg.HybridKeys()
	if err != nil { // they were read before, so they have just changed
		f.fail("X-Wing keys", stateFailed, err)
		return
	}
	for i, k := range own {
		f.hybridKey("X-Wing key "+cfg.Site.HybridKeys[i], k, now)
	}
	for _, p := range policy.Peers() {
		f.add("hybrid mail with peer "+p.Name, hybridText(cfg, p, len(own) > 0))
		for _, r := range cfg.Rules {
			suite, err := cipher.ParseSuite(r.Suite)
			if err != nil || r.Peer != p.Name || p.Hybrid == nil || suite == cipher.SuiteAuto || suite.Hybrid() {
				continue
			}
			f.add("rule "+r.Domain, fmt.Sprintf("%s with X-Wing, since peer %s has a hybrid_key", suite, p.Name))
		}
	}
}

// hybridKey reports a key with its age. A credential's age is not known.
func (f *findings) hybridKey(what string, k config.HybridKey, now time.Time) {
	detail := "fingerprint " + k.Public().Fingerprint().String()
	if k.Written.IsZero() {
		f.add(what, detail)
		return
	}
	const day = 24 * time.Hour
	age := now.Sub(k.Written)
	detail += fmt.Sprintf(", written %s, %d days ago", k.Written.Format(time.DateOnly), age/day)
	if age < 366*day {
		f.add(what, detail)
		return
	}
	f.fail(what, stateWarning, terminal.Fail(terminal.ExitConfig, "replace it, or remove it if it has been replaced: docs/operations.md says how", "%s", detail))
}

// hybridText says which mail to and from a peer is hybrid.
func hybridText(cfg *config.Config, p *mailer.Peer, canOpen bool) string {
	var text []string
	if cfg.Does(mailer.DirectionEncrypt) {
		to := "none to it, since it has no hybrid_key"
		if p.Hybrid != nil {
			to = "all to it, for the key with fingerprint " + p.Hybrid.Fingerprint().String()
		}
		text = append(text, to)
	}
	if cfg.Does(mailer.DirectionDecrypt) {
		var names []string
		for _, s := range p.Suites {
			if canOpen || !s.Hybrid() {
				names = append(names, string(s))
			}
		}
		from := "from it, with the suites that it uses; accepted are " + strings.Join(names, ", ")
		if !canOpen {
			from = "none from it, since [site] has no hybrid_keys"
		} else if !slices.ContainsFunc(p.Suites, func(s cipher.Suite) bool { return !s.Hybrid() }) {
			from = "all from it"
		}
		text = append(text, from)
	}
	return strings.Join(text, "; ")
}
