package config_test

import (
	"fmt"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A configuration with two mistakes: both are reported, with their places.
func ExampleParse() {
	_, err := config.Parse("relay.toml", []byte(`
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
func ExampleQuick() {
	c, err := config.Quick(config.QuickOptions{
		Direction: mailer.DirectionEncrypt,
		Listen:    "lmtp:127.0.0.1:10025",
		NextHop:   "127.0.0.1:10026",
		KM:        config.KM{URL: "mock:keys.json", SAE: "SAE_A"},
		Peer:      "SAE_B",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Listeners[0].Protocol, c.Listeners[0].Address, c.Rules[0].Encrypt)
	// Output: lmtp 127.0.0.1:10025 required
}
