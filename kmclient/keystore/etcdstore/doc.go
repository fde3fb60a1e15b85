// Package etcdstore keeps the records of a keystore in etcd, so that several
// relays share them and the loss of a node loses nothing.
//
// An Apply is one etcd transaction: it returns once a majority of the members
// has it on disk, and it is made only if every record still is of the revision
// that its maker has read. Reads are linearizable. Nothing hangs on a lease or a
// clock, and no Apply is sent a second time after it may have been received: its
// outcome is what the error can't say, and the caller looks.
//
// # Keys
//
// A Store uses two ranges of keys, which differ from those of any other prefix,
// also of one that this prefix is the beginning of. 00 is an octet, and so is
// the 1 of the value; the parts of a name have no 00 in them, so that the order
// of the keys is that of [keystore.Name.Compare].
//
//	PREFIX /r 00 KIND 00 KM 00 SAE 00 ID              a record; its value is 1 ‖ DUE ‖ octets
//	PREFIX /d 00 KM 00 SAE 00 DUE ‖ KIND 00 ID        says that the record has this DUE; no value
//
// DUE is 8 octets: Unix time in seconds, as a big-endian two's complement number
// with the first bit inverted, so that earlier times come first; the zero
// [time.Time] is "never", and then there is no second key. Both are written in
// the same transaction.
//
// # For the administrator
//
// Any etcd from 3.4 on will do, with one of its own limits as it is by default or
// higher: 128 operations in a transaction (--max-txn-ops; Open checks that) and
// requests of 1.5 MiB (--max-request-bytes). Where etcd's own authentication is on,
// the common name of the client certificate is the user (passwords are not
// supported), who needs to read and write the keys that begin with PREFIX/.
//
// A message whose key is closed occupies about 0.9 KiB until its tombstone goes,
// and 1.9 KiB until its history is compacted, so that the default space quota of 2
// GiB is enough for a million of them. The ID of each key, sent or received, takes
// 125 bytes, for ever, and about 740 bytes of the memory of each member: a million
// are 740 MB. 8 GiB (--quota-backend-bytes) is as much as etcd's authors recommend.
//
// A record is as large as its key, 1 MiB at most. Where --max-request-bytes is lower
// than by default, a key may be too large: it then waits in memory, and no other is
// fetched before the option is right.
//
// [Store.Compact], which a sweep calls when something was deleted, and the first
// one of a process anyway, makes all older revisions unreadable, in the whole cluster: whoever else uses it must be
// able to bear that, as everything can that works with Kubernetes. The octets
// remain in free pages of the members' files, and in snapshots and logs, sealed
// as they are, until those are used again. To end that is up to the
// administrator: etcdctl defrag, one member after the other, since each blocks
// while it runs; and a new store key.
//
// A cluster that was restored from a snapshot gives revisions out again, with other
// states of the records. With the same members and the same --initial-cluster-token
// it has even the ID that it had. So stop the relays first, all of them; restore
// with a token that was never used, which makes another ID; and start the relays
// when the cluster is up. A Store that was opened before refuses to work with
// another ID, as with endpoints that belong to different clusters, and with a
// cluster that is behind what the Store has seen of it; but one that has come as far
// again, under the same ID, can't be told from the old one.
package etcdstore
