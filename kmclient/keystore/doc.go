// Package keystore keeps keys durably between the key manager and the message.
package keystore
