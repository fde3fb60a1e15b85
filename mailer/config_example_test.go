package mailer_test

import (
	"fmt"
	"os"

	"github.com/qkdmail/qkdmail/mailer"
)

// A configuration with two mistakes: both are told, with their places.
func ExampleParseConfig() {
	_, err := mailer.ParseConfig("relay.toml", []byte(`
[km]
url = "mock:"
timout = "30s"

[limits]
recipients = "many"
`))
	fmt.Println(err)
	// Output:
	// relay.toml:4: km.timout: unknown key: did you mean timeout?
	// relay.toml:7: limits.recipients: must be an integer, not a string
}

// A relay that encrypts all mail for one peer, without a file.
func ExampleQuickConfig() {
	config, err := mailer.QuickConfig(mailer.QuickOptions{
		Direction: mailer.DirectionEncrypt,
		Listen:    "lmtp:127.0.0.1:10025",
		NextHop:   "127.0.0.1:10026",
		KM:        mailer.KMConfig{URL: "mock:keys.json", SAE: "SAE_A"},
		Peer:      "SAE_B",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(config.Listeners[0].Protocol, config.Listeners[0].Address, config.Rules[0].Encrypt)
	// Output: lmtp 127.0.0.1:10025 required
}

// A program of its own needs peers and rules only.
func ExampleNewPolicy() {
	config := mailer.DefaultConfig()
	config.Peers = []mailer.PeerConfig{{Name: "site-b", SAE: "SAE_B", Domains: []string{"b.example"}}}
	config.Rules = []mailer.RuleConfig{
		{Domain: "b.example", Peer: "site-b", Encrypt: mailer.Required},
		{Domain: "default", Encrypt: mailer.Never},
	}
	policy, err := mailer.NewPolicy(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = policy.Explain(os.Stdout, "user@b.example")
	_ = policy.Explain(os.Stdout, "user@c.example")
	// Output:
	// user@b.example
	//   domain    b.example
	//   rule      b.example
	//   mail to   is encrypted for peer "site-b", SAE SAE_B, or waits until it can be
	//   suite     OTP for messages of up to 64 KiB, AES-256-GCM above
	//   mail from must come encrypted from peer "site-b", SAE SAE_B
	// user@c.example
	//   domain    c.example
	//   rule      default
	//   mail to   leaves as it is, not encrypted
	//   mail from passes where it is not encrypted; no peer has this domain
}
