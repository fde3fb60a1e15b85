package kmclient

import "context"

// A KeyManager gives out keys that its counterpart at the other site holds as
// well. Its methods may be called by several goroutines at the same time.
//
// peer is the SAE ID of the other side: the one that will decrypt for GetKeys, the one
// that encrypted for KeysByID. Key managers without SAEs ignore it.
//
// Errors are of type [*Error] and wrap a sentinel of this package. Their text, Message
// and Details never show anything that could be a key. If ctx has ended, the error
// wraps its cause ([Canceled]). A client's own time-out does not wrap
// context.DeadlineExceeded, which would be mistaken for the caller's.
type KeyManager interface {
	// Status reports the link to peer and the limits of the key manager.
	Status(ctx context.Context, peer string) (Status, error)

	// GetKeys fetches number fresh keys of size bits each. It returns that many, or
	// fewer if the key manager gives no more now, or an error. All have that size: a
	// longer key is refused just like a shorter one, since the other side gets all of
	// it. Only the answer tells whether there are keys, not an earlier Status. The
	// caller wipes keys that come with an error.
	//
	// It is not idempotent: each request that is served uses up keys. Keys whose
	// answer was lost are never used.
	GetKeys(ctx context.Context, peer string, size, number int) ([]*Key, error)

	// KeysByID fetches the keys with these IDs, in this order. If one of them is
	// missing, the error is ErrKeyNotFound.
	//
	// A key manager that deletes keys on delivery may have given out some before the
	// error. They are returned with it: some of those asked for, in any order, or keys
	// under IDs that were not asked for. Each is usable by itself. The caller stores or
	// wipes them.
	KeysByID(ctx context.Context, peer string, ids ...string) ([]*Key, error)

	// CloseKey tells the key manager that a key has served its purpose, so that it
	// deletes the key. If the key is unknown, the error is ErrKeyNotFound.
	CloseKey(ctx context.Context, id string) error

	// DeletesOnDelivery reports whether the key manager deletes a key when it gives it
	// out, as ETSI GS QKD 014 prescribes. The caller must then keep a key that it may
	// need again, and CloseKey does nothing. A wrapper returns what the wrapped key
	// manager does, unless it keeps the keys itself.
	DeletesOnDelivery() bool
}

// A Lister is a KeyManager that can list the keys that it stores.
type Lister interface {
	// ListKeys returns the stored keys without their bytes, oldest first if the key
	// manager knows their order.
	ListKeys(ctx context.Context) ([]KeyInfo, error)
}
