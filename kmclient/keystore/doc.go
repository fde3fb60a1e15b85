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
//   - What one call stores is in one commit if the engine takes so much in one:
//     4095 short keys with SQLite, 41 with etcd as it is by default. Else it is
//     in several, and each key is whole and right by itself: if a later commit
//     fails, those of the earlier ones stay.
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
// so). What holds when it is set:
//
//   - While a process runs, it judges by the earlier and notes with the later of
//     two times: the clock's, and the clock's at its start plus the time it has
//     run. So no step, ahead or back, for a while or for good, closes a key or
//     forgets a tombstone before its time; some things last longer, until the
//     next start at most, or as much longer as the clock was ahead.
//   - A clock that is wrong when a process starts is believed. If it is ahead,
//     and nobody sets it right before the first sweep, keys of messages that some
//     recipients have got, and others are still waiting for, are closed too early.
//     If it is behind, the next process does so with what was delivered before it
//     was set right; a relay delivers nothing then, unless it is behind by less
//     than the day that a message may be ahead. A relay is to be started after
//     the clock has been set (systemd: time-sync.target).
//   - A relay judges the age of a message by the clock alone. If that goes back
//     by more than Tombstones are longer than the age that it accepts, by
//     default 30 days, it accepts the Time of messages whose tombstones are
//     gone. Their keys are gone as well, here and, as soon as it could be told,
//     at the key manager, so that they still don't open.
package keystore

import (
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// What can go wrong, beside what [kmclient] knows. A Manager returns them in a
// [kmclient.Error], whose Retry says whether the same can go well later.
var (
	// ErrBound: the key belongs to another message, or to another frame of this
	// one; or to none, where one is asked for that was opened. Somebody may have
	// copied a key ID into a message of his own.
	ErrBound = errors.New("key belongs to another message: possible attack")
	// ErrClosed: the key has served its purpose and is deleted.
	ErrClosed = errors.New("key is closed")
	// ErrReused: the key manager gave out a key ID that has had its use here,
	// to encrypt or to decrypt. It may have been restored from a backup.
	ErrReused = errors.New("key ID has had its use here")
	// ErrClaimed: a message names a key ID that has had its use here: it was
	// given out to encrypt with, or its tombstone is gone. It is an ErrReused,
	// and trying again does not help.
	ErrClaimed = fmt.Errorf("%w: possible attack", ErrReused)
	// ErrNotBound: the key has opened no message, so none can be delivered.
	ErrNotBound = errors.New("key belongs to no message")
	// ErrStoreKey: the store was made with another store key. It is a
	// kmclient.ErrConfig.
	ErrStoreKey = fmt.Errorf("%w: wrong store key", kmclient.ErrConfig)
	// ErrRecord: a record can't be unsealed: it is damaged, or somebody has
	// changed it. It is a kmclient.ErrStore, and trying again can help: once a
	// backup is in the place of the store.
	ErrRecord = fmt.Errorf("%w: damaged record; a backup may have it whole", kmclient.ErrStore)
)
