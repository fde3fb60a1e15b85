// Package keystore keeps keys durably between the key manager and the message.
//
// A key manager that deletes a key when it gives it out, as those of ETSI GS QKD
// 014 do, makes its caller the only holder of that key. A [Store] wraps any
// [kmclient.KeyManager] and is one itself. It returns a receiving key only once
// that is on disk, where it stays until its message is delivered.
//
//   - A key ID has one use here, to encrypt or to decrypt, for ever. It is claimed
//     before the key is returned: a sending key's by a claim alone, since sending
//     keys are never stored; a receiving key's in the commit that stores it. The
//     claim stays when the key is gone. So no pad serves twice, even if the key
//     manager was restored from a backup.
//   - A key belongs to the first message that was verified under it
//     ([Store.BindKeys]). Any other message is refused, on every machine that
//     shares the records.
//   - Who has got a message is recorded under its [kmclient.Identity]
//     ([Store.RecordDelivered]), so that nobody gets it twice. Another message
//     that names the same key does not count as delivered, whether the key is open
//     or closed.
//   - What one call stores is in one commit if the engine takes so much: 4096 short
//     keys with those here. Otherwise it takes several commits, and each key is whole
//     by itself: if a later commit fails, the keys of the earlier ones stay.
//   - A [Policy] decides when a key is closed: deleted here and, if the key manager
//     has such an operation, there. A tombstone stays for a while.
//
// # Engines
//
// An [Engine] keeps the records: keystore/sqlite on one machine, keystore/postgres
// for several. Each record is sealed under a key of its own, made from the store key
// that a [StoreKeySource] gives. Recipients are in it as HMAC-SHA256 only. What is not
// sealed is the names of records, states and dates. Whoever can write to the engine
// can delete records, or put older ones back, and nobody notices; but not read,
// change or swap any.
//
// # Names
//
// A record's name holds the names of the key manager and of one's own SAE as they
// are configured, and an ID. The ID of a message's record is the message's identity.
// That of a key's record and claim is the key ID if that is a UUID, which is unique
// over all peers; its spelling does not matter.
//
// Other key IDs may be in use with two peers at the same time, for two keys. So the
// ID in the name is a UUID that SHA-256 makes of the peer's SAE ID and the key ID
// (version 8, RFC 9562 §5.8). It has the same length whatever these are, takes as
// little room as a UUID, and does not show them; both are in the sealed record. A key
// manager that keeps its keys, and is asked for them by ID alone, is an exception:
// there an ID is one key whoever names it, so the peer is left out.
//
// # What grows
//
// Claims are kept for ever, and there is no option to forget them. Two messages
// under one pad give away both, to anyone who has kept the first, so a reuse hurts
// as long as anyone cares for the older message; and a key manager that was restored
// from an old backup gives out old IDs. A claim takes as little as an engine needs
// for a name without a value, whatever the key ID is:
//
//	SQLite      25 bytes
//	PostgreSQL  52 bytes, and 55 of the index
//
// A message with AES takes one key at each end: 25 MB for a million messages in
// SQLite. A message with a pad takes one key for each frame at least, and as many as
// its size demands: with keys of 64 KiB a message of 100 KB takes 2, with keys of 32
// bytes some 6,000, and their IDs take more room than the message. So large keys
// save more than any expiry would.
//
// What else is kept of an arriving message, about 700 bytes in SQLite and 1 KiB in
// PostgreSQL, goes with its tombstone: 67 days after its delivery, by default.
//
// # Time
//
// The clock decides when a key of a delivered message is closed and when its
// tombstone goes, and nothing else: no key that may still be needed, no binding and
// no claim depends on it (unless [Options.Undelivered] is set). When the clock is set:
//
//   - While a process runs, it judges by the earlier and records the later of two
//     times: the clock's, and the clock's at its start plus the time it has run. So
//     no step of the clock, ahead or back, closes a key or forgets a tombstone too
//     early. Some things last longer: until the next start at most, or as much
//     longer as the clock was ahead.
//   - A clock that is wrong when a process starts is believed. If it is ahead, and
//     nobody sets it right before the first sweep, keys of messages that some
//     recipients have got, and others still wait for, are closed too early. If it
//     is slow, the next process does so with what was delivered before it was set
//     right; a relay delivers nothing then, unless the clock is less slow than the
//     day that a message may be ahead. Start a relay after the clock has been set
//     (systemd: time-sync.target).
//   - A relay judges the age of a message by the clock alone. If that goes back by
//     more than Tombstones are longer than the age that it accepts, by default 30
//     days, it accepts the Time of messages whose tombstones are gone. Their keys
//     are gone as well, and their IDs claimed, so that they still don't open.
package keystore
