// Package keystore keeps keys durably between the key manager and the message.
//
// A key manager that deletes a key when it gives it out, as ETSI GS QKD 014 has
// it, makes its caller the only holder of that key. A [Manager] stands before
// any [kmclient.KeyManager], is one itself, and returns a receiving key only
// once it is on disk, where it stays until its message has been delivered.
//
//   - A key belongs to the first message that was verified under it
//     ([Manager.BindKeys]); any other is refused, on every machine that shares
//     the store.
//   - Who has got a message is recorded ([Manager.RecordDelivered]), so that it
//     is delivered to each recipient once.
//   - A [Policy] says when a key is closed: deleted here and, where there is
//     such an operation, at the key manager. A tombstone stays for a while.
//   - Sending keys are never stored. Their IDs are, before use, and for ever: a
//     key manager that was restored from a backup must not make anyone use a
//     pad twice.
//
// # Engines
//
// Records are kept by a [Store]: keystore/sqlite for one machine, etcd for
// several. A [Vault] seals what goes into it, each record under a key of its
// own, made from the store key that a [KeySource] gives; recipients are there
// as HMAC-SHA256 only. Not sealed are the names of records: the key manager's
// and one's own SAE ID as they are configured, key IDs, message identities; and
// states and dates. Whoever can write to the store can delete records, or put
// back older ones, unnoticed; he can't read, change or swap any.
//
// # What grows
//
// The ID of a sending key is kept for ever, and there is no option to forget it.
// Two messages under one pad give away both, to anyone who has kept the first,
// so a reuse hurts as long as anybody cares for the older message; and a key
// manager that was restored from an old backup gives out old IDs. What is kept
// is as little as an engine can make of a name without a value:
//
//	SQLite  25 octets on disk for an ID that is a UUID
//	etcd    125 octets on disk, of a quota of 2 GiB by default, and about
//	        700 octets of memory, on each node
//
// A message with AES takes one key: 25 MB for a million messages in SQLite. One
// with a pad takes a key for each frame at least, and as many as its size
// demands: with keys of 64 KiB a message of 100 KB takes 2, with keys of 32
// octets some 6,000, and their IDs take more room than the message. So large keys
// save more than any expiry would.
//
// What is kept of an arriving message, about 700 octets in SQLite and 1 KiB in
// etcd, goes with its tombstone: 67 days after its delivery, by default.
//
// # Time
//
// The clock decides when a key of a delivered message is closed and when its
// tombstone goes, and nothing else: no key that may still be needed, no binding
// and no ID of a sending key depends on it (unless [Options.Undelivered] says
// so).
package keystore

import (
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// What can go wrong, beside what [kmclient] knows. A Manager returns them in a
// [kmclient.Error], whose Retry says whether the same can go well later.
var (
	// ErrBound: the key has opened another message already, or another frame
	// of this one. Somebody may have copied a key ID into a message of his own.
	ErrBound = errors.New("key belongs to another message: possible attack")
	// ErrClosed: the key has served its purpose and is deleted.
	ErrClosed = errors.New("key is closed")
	// ErrReused: the key manager gave out a key ID for sending that it had
	// given out before. It may have been restored from a backup.
	ErrReused = errors.New("key manager gives out a key ID again")
	// ErrNotBound: the key has opened no message, so none can be delivered.
	ErrNotBound = errors.New("key belongs to no message")
	// ErrStoreKey: the store was made with another store key. It is a
	// kmclient.ErrConfig.
	ErrStoreKey = fmt.Errorf("%w: wrong store key", kmclient.ErrConfig)
	// ErrRecord: a record can't be unsealed: it is damaged, or somebody has
	// changed it. It is a kmclient.ErrStore.
	ErrRecord = fmt.Errorf("%w: damaged record", kmclient.ErrStore)
)
