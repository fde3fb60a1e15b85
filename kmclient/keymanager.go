package kmclient

import "context"

// A KeyManager gives out keys that its counterpart at the other site holds as
// well. Its methods may be called by several goroutines at the same time.
//
// peer is the SAE ID of the other side: the one that will decrypt for GetKeys, the
// one that encrypted for KeysByID. Key managers that know no SAEs ignore it.
//
// An error is an [*Error] that wraps a sentinel of this package. Its text and that
// of Message and Details never show what could be a key. If ctx has ended, the
// error wraps its cause ([Canceled]). A client's own time-out does not wrap
// context.DeadlineExceeded, which would be taken for the caller's.
type KeyManager interface {
	// Status reports the link to peer and the limits of the key manager.
	Status(ctx context.Context, peer string) (Status, error)

	// GetKeys fetches number fresh keys of size bits each. It returns as many, or
	// fewer if the key manager gives no more now, or an error. All are of that
	// size: a longer key is refused as a shorter one is, since the other side gets
	// all of it. Only the answer says whether there are keys, not a Status before
	// it. The caller wipes keys that come with an error.
	//
	// It is not idempotent: each request that is served uses up keys. Keys whose
	// answer was lost are never used.
	GetKeys(ctx context.Context, peer string, size, number int) ([]*Key, error)

	// KeysByID fetches the keys with these IDs, in this order. If one of them is
	// missing the error is an ErrKeyNotFound.
	//
	// A key manager that deletes keys on delivery may have given out some before
	// the error. These are returned with it: some of those asked for, in any order,
	// or keys under IDs that were not asked for, each usable by itself. The caller
	// stores or wipes them.
	KeysByID(ctx context.Context, peer string, ids ...string) ([]*Key, error)

	// CloseKey reports that a key has served its purpose; the key manager
	// deletes it. An unknown key is an ErrKeyNotFound.
	CloseKey(ctx context.Context, id string) error

	// DeletesOnDelivery reports whether the key manager deletes a key when it
	// gives it out, as ETSI GS QKD 014 has it. The caller must then keep a key that
	// it may need again, and CloseKey does nothing. A wrapper returns what the key
	// manager in it does, unless it keeps the keys itself.
	DeletesOnDelivery() bool
}

// A Lister is a KeyManager that can list the keys that it stores.
type Lister interface {
	// ListKeys returns the stored keys without their bytes, oldest first
	// where the key manager knows their order.
	ListKeys(ctx context.Context) ([]KeyInfo, error)
}
