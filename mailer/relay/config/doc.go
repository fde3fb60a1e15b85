// Package config reads the configuration of a relay from TOML, strictly: a key that is
// unknown, duplicate or of the wrong type is an error that says where it is and what is
// expected. docs/relay.toml has every key.
//
// A [Config] is plain data. [Config.Policy] makes the [mailer.Policy] from it, and
// package relay everything that runs.
package config
