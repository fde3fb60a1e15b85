// Package config is the configuration of a relay in TOML, strictly read: a key
// that is unknown, doubled or of the wrong type is an error that says where it is
// and what is expected. docs/relay.toml has every key.
//
// A [Config] is plain data. [Config.Policy] makes the [mailer.Policy] of it, and
// package relay all that runs.
package config
