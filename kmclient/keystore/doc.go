// Package keystore keeps keys durably between the key manager and the message.
//
// A key manager that deletes a key when it gives it out, as those of ETSI GS QKD 014
// do, makes its caller the only holder of that key. A [Store] wraps any
// [kmclient.KeyManager] and is one itself. It returns a receiving key only once the key
// is on disk, where it stays until its message is delivered.
//
//   - A key ID is used only once here, to encrypt or to decrypt. It is claimed before
//     the key is returned: for a sending key, which is never stored, by a claim alone;
//     for a receiving key in the commit that stores it. The claim stays when the key is
//     gone. So no pad is used twice, even if the key manager was restored from a
//     backup.
//   - A key belongs to the first message that was verified under it
//     ([Store.BindKeys]). Any other message is refused, on every machine that
//     shares the records.
//   - The recipients who have received a message are recorded under its
//     [kmclient.Identity] ([Store.RecordDelivered]), so that nobody gets it twice.
//     Another message that names the same key does not count as delivered, whether the
//     key is open or closed.
//   - One call stores its keys in one commit if the engine accepts so many: 4096 short
//     keys with the engines here. Otherwise it takes several commits, and each key is
//     whole by itself: if a later commit fails, the keys of the earlier ones stay.
//   - A [Policy] decides when a key is closed: deleted here and, if the key manager
//     has such an operation, there. A tombstone stays for a while.
//
// # Engines
//
// An [Engine] keeps the records: keystore/sqlite on one machine, keystore/postgres for
// several. Each record is sealed under a key of its own, made from the store key that a
// [StoreKeySource] gives. It holds recipients only as HMAC-SHA256. The names of
// records, states and dates are not sealed. Whoever can write to the engine can delete
// records or put older ones back unnoticed, but can't read, change or swap any.
//
// # Names
//
// A record's name holds the configured names of the key manager and of this site's SAE,
// and an ID. The ID of a message's record is the message's identity. The ID of a key's
// record and claim is the key ID if that is a UUID, which is unique over all peers; its
// spelling does not matter.
//
// Other key IDs may be in use with two peers at the same time, for two keys. For these,
// the ID in the name is a UUID made with SHA-256 from the peer's SAE ID and the key ID
// (version 8, RFC 9562 §5.8). It always has the same length, takes as little room as a
// UUID, and reveals neither; both are in the sealed record. A key manager that keeps
// its keys, and is asked for them by ID alone, is an exception: there an ID means one
// key, whoever names it, so the peer is left out.
//
// # What grows
//
// Claims are kept forever, and there is no option to forget them. Two messages under
// one pad reveal both to anyone who has kept the first, so reuse does harm as long as
// anyone cares about the older message; and a key manager that was restored from an old
// backup gives out old IDs. A claim takes as little as an engine needs for a name
// without a value, whatever the key ID is:
//
//	SQLite      25 bytes
//	PostgreSQL  52 bytes, and 55 in the index
//
// A message with AES takes one key at each end: 25 MB for a million messages in SQLite.
// A message with a pad takes at least one key for each frame, and as many as its size
// demands: a message of 100 KB takes 2 keys of 64 KiB, or some 6,000 keys of 32 bytes,
// whose IDs take more room than the message. So large keys save more than any expiry
// would.
//
// What else is kept about an arriving message is about 700 bytes in SQLite and 1 KiB in
// PostgreSQL. By default, its tombstone goes 67 days after its delivery, and the record of
// who has received it 77 days after.
//
// # Time
//
// The clock decides only when a key of a delivered message is closed and when its
// tombstone goes. No key that may still be needed, no binding and no claim depends on
// it (unless [Options.Undelivered] is set). If the clock is set or wrong:
//
//   - A running process judges by the earlier and records the later of two times: the
//     clock's, and the clock's at its start plus the time it has run. So no step of the
//     clock, ahead or back, closes a key or forgets a tombstone too early. Some things
//     last longer: at most until the next start, or by as much as the clock was ahead.
//   - A process believes the clock at its start. If that is ahead, and nobody sets it
//     right before the first sweep, keys of messages that some recipients have
//     received, and others still wait for, are closed too early. If it is slow, the
//     next process does this to messages delivered before it was set right. But a relay
//     whose clock is more than a day slow delivers nothing, since it accepts messages
//     at most a day ahead. Start a relay after the clock has been set (systemd:
//     time-sync.target).
//   - If a process starts while its clock is ahead by more than Tombstones, records of
//     deliveries go too early as well, but none while the key of its message is open. So a
//     copy of such a message is refused, and not delivered again.
//   - A relay judges the age of a message by the clock alone. If the clock goes back by
//     more than Tombstones exceeds the age that the relay accepts (by default 30 days
//     more), it accepts the Time of messages whose tombstones are gone. But their keys
//     are gone as well, and the IDs claimed, so the messages still don't open.
package keystore
