package relay

import (
	"fmt"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
	"github.com/qkdmail/qkdmail/mailer/internal/nexthop"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// step returns the encrypting or decrypting step of a listener. own are this site's X-Wing
// keys.
func (r *Relay) step(cfg *config.Config, c config.Listener, l *listener, policy *mailer.Policy, own []config.HybridKey, hop *nexthop.Hop) (contract.Backend, error) {
	users, err := c.Users()
	if err != nil {
		return nil, err
	}
	common := mailer.Step{
		Policy: policy, Hostname: cfg.Hostname,
		MaxSize: cfg.Limits.MessageSize, MaxSizeNow: func() int64 { return r.offers(l).Size },
		MaxLine: int(cfg.Limits.LineLength), MaxHeader: int(cfg.Limits.HeaderSize), MaxReceived: cfg.Limits.Received, Memory: &r.memory,
		LMTP: c.Protocol == config.LMTP, Users: users, RequireAuth: users != nil, KeyTimeout: cfg.KM.Timeout, Now: r.machine.Now,
		EightBit: hop.EightBit, HandOver: hop.HandOver,
		Logger: r.log.With("listener", c.Name), LogAddress: cfg.Log.Addresses, MessageID: cfg.Log.ShownID, Observer: &r.observer,
	}
	if err := r.keys.check(c.Direction); err != nil {
		return nil, fmt.Errorf("listener %s: %w", c.Name, err)
	}
	var backend smtp.Backend
	if c.Direction == mailer.DirectionDecrypt {
		o := mailer.DecryptOptions{
			Step: common, Keys: r.keys.Finder, Binder: r.keys.Binder, Deliveries: r.keys.Deliveries, KeyGrace: cfg.KM.KeyGrace,
		}
		for _, k := range own {
			o.Hybrid = append(o.Hybrid, k.HybridPrivateKey)
		}
		backend, err = mailer.Decrypt(hop, o)
	} else {
		backend, err = mailer.Encrypt(hop, mailer.EncryptOptions{
			Step: common, Keys: r.keys.Source, Claims: r.keys.Claims, Headers: cfg.Headers.Policy, Note: cfg.Headers.Note,
			NextSize: func() int64 { return hop.Offers().Size },
			InClear:  func(peer string) { r.log.Warn("in clear for want of keys", "peer", peer) },
		})
	}
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", c.Name, err)
	}
	step, ok := backend.(contract.Backend)
	if !ok {
		return nil, fmt.Errorf("listener %s: a step of type %T does not run under the relay's server", c.Name, backend)
	}
	return step, nil
}

// check returns an error if a key that a direction needs is not set.
func (k Keys) check(d mailer.Direction) error {
	missing := ""
	switch {
	case d == mailer.DirectionEncrypt && k.Source == nil:
		missing = "Source"
	case d == mailer.DirectionDecrypt && k.Finder == nil:
		missing = "Finder"
	case d == mailer.DirectionDecrypt && k.Binder == nil:
		missing = "Binder"
	case d == mailer.DirectionDecrypt && k.Deliveries == nil:
		missing = "Deliveries"
	default:
		return nil
	}
	return fmt.Errorf("%w: relay.Keys.%s must be set to %s", mailer.ErrConfig, missing, d)
}

// newHop returns the next hop of a configuration.
func (r *Relay) newHop(cfg *config.Config, n config.NextHop) (*nexthop.Hop, error) {
	o := nexthop.Options{
		LMTP: n.Protocol == config.LMTP, Hostname: cfg.Hostname, TLS: hopTLS(n.TLS), User: n.AuthUser,
		MaxConns: n.MaxConnections, MaxIdle: n.MaxIdle, MaxMessages: n.MaxMessages, IdleFor: cfg.Timeouts.NextHopIdle,
		Connect: cfg.Timeouts.Connect, Command: cfg.Timeouts.Command, AfterDot: cfg.Timeouts.AfterDot, Upload: cfg.Timeouts.Command,
		Dial: r.machine.DialContext, Logger: r.log,
	}
	var err error
	if o.Network, o.Address, err = n.Endpoint(); err == nil {
		o.TLSConfig, err = n.TLSConfig()
	}
	if err == nil {
		o.Password, err = n.Password()
	}
	if n.AuthTokenFile != "" {
		o.Token = n.Token
	}
	if err != nil {
		return nil, fmt.Errorf("%w: next hop %s: %w", mailer.ErrConfig, n.Name, err)
	}
	return nexthop.New(o), nil
}

func hopTLS(m config.TLSMode) nexthop.TLSMode {
	switch m {
	case config.TLSRequired:
		return nexthop.TLSRequired
	case config.TLSOpportunistic:
		return nexthop.TLSOpportunistic
	}
	return nexthop.TLSOff
}
