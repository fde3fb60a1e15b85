package engine

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// A Record is what an Engine keeps. A record that came from an Engine or was given to
// one must not be changed, nor its Value; only Apply sets the Version.
type Record struct {
	Name
	Due     time.Time // when the sweep should look at it, in whole seconds; zero: never
	Value   []byte    // sealed; empty for Claim; at most 2 MiB
	Version int64     // set by the Engine: never the same for two states of a record
}

// A Kind is what a record is about.
type Kind string

// The kinds of records. A Claim has no value and no Due. It is only ever made, never
// changed, removed or checked by a Change, and is kept forever, so an engine may store
// it in a few bytes.
const (
	Receive Kind = "receive" // a key to decrypt with; ID is a UUID, as the comment of package keystore says
	Claim   Kind = "claim"   // a key ID is taken, to encrypt or decrypt with; ID as for Receive
	Message Kind = "message" // the deliveries of a message; ID is its identity, in hexadecimal
	Store   Kind = "store"   // about the store itself
)

// A Name finds a record. Its parts are 0 to 255 bytes, none of them NUL.
type Name struct {
	Kind Kind
	KM   string // the key manager, as the configuration names it
	SAE  string // own SAE ID, "" if there is none
	ID   string
}

// maxPart is the size of a part of a name in bytes.
const maxPart = 255

// Compare orders names by Kind, KM, SAE and ID, byte by byte.
func (n Name) Compare(o Name) int {
	return cmp.Or(strings.Compare(string(n.Kind), string(o.Kind)), strings.Compare(n.KM, o.KM),
		strings.Compare(n.SAE, o.SAE), strings.Compare(n.ID, o.ID))
}

// String returns the name for people.
func (n Name) String() string { return fmt.Sprintf("%s %q %q %q", n.Kind, n.KM, n.SAE, n.ID) }

// Parts returns the parts of a name in order.
func (n Name) Parts() [4]string { return [4]string{string(n.Kind), n.KM, n.SAE, n.ID} }

// Check reports whether a record can have this name.
func (n Name) Check() error {
	for _, p := range n.Parts() {
		if len(p) > maxPart || strings.IndexByte(p, 0) >= 0 {
			return fmt.Errorf("a record can't have the name %.300q", n.String())
		}
	}
	return nil
}
