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
// A message whose key is closed occupies about 1 KiB until its tombstones go, and
// as much again until its history is compacted, so that the default space quota
// of 2 GiB is enough for a million of them. 8 GiB (--quota-backend-bytes) is as
// much as etcd's authors recommend.
//
// [Store.Compact], which a sweep calls when it has deleted something, makes all
// older revisions unreadable, in the whole cluster: whoever else uses it must be
// able to bear that, as everything can that works with Kubernetes. The octets
// remain in free pages of the members' files, and in snapshots and logs, sealed
// as they are, until those are used again. To end that is up to the
// administrator: etcdctl defrag, one member after the other, since each blocks
// while it runs; and a new store key.
//
// A cluster that was restored from a snapshot gives revisions out again. It has
// another ID, and a Store that was opened before refuses to work with it, as with
// endpoints that belong to different clusters: relays are to be started again.
package etcdstore
