package etsi014

import (
	"fmt"
	"maps"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// A KeepFunc takes over keys that a client holds while nobody has got them: it
// keeps them where they outlive the process, and wipes these. If it can't do so
// now, it keeps them in memory until it can, and the error says why no more of
// them should be fetched.
type KeepFunc func(peer string, keys []*kmclient.Key) error

// KeepWith has keys handed over that would otherwise wait in memory, and be lost
// with the process: those of a request that is not the last of its call, before
// the next one is made; and those of a call that fails, or whose caller has
// given up, also under IDs that were not asked for. A key may be handed over twice. It is to be called before the first
// KeysByID; keep is for a store that stands before this client and will not ask
// it for these keys again.
func (e *Client) KeepWith(keep KeepFunc) { e.keep = keep }

// setAside keeps keys, by their canonical IDs, of a look-up that failed or that
// nobody waits for.
func (e *Client) setAside(peer string, keys map[string]*kmclient.Key) {
	switch {
	case e.keep == nil:
		e.kept.add(peer, keys)
	case len(keys) > 0:
		_ = e.keep(peer, slices.Collect(maps.Values(keys))) // the caller has an error already, or has gone
	}
}

// rescue keeps what is a key by itself of an answer that is refused, under the
// ID that it came with: the KME does not have it any more. One that reads IDs
// otherwise than we do answers with another message's key.
func (e *Client) rescue(peer string, keys []*kmclient.Key) {
	whole := make(map[string]*kmclient.Key, len(keys))
	for _, k := range keys {
		id := kmclient.CanonicalID(k.ID())
		if _, twice := whole[id]; twice || kmclient.CheckKeys([]*kmclient.Key{k}, 0, 1) != nil {
			e.waste([]*kmclient.Key{k})
			continue
		}
		whole[id] = k
	}
	e.handed.note(peer, slices.Collect(maps.Values(whole)))
	e.setAside(peer, whole)
}

// secure hands over copies of keys that came before others of the same call.
func (e *Client) secure(l *lookup, found map[string]*kmclient.Key) *kmclient.Error {
	if e.keep == nil || len(found) == 0 || len(l.missing()) == 0 {
		return nil
	}
	copies := make([]*kmclient.Key, 0, len(found))
	for _, k := range found {
		copies = append(copies, kmclient.NewKey(k.ID(), slices.Clone(k.Reveal())))
	}
	if err := e.keep(l.peer, copies); err != nil {
		return &kmclient.Error{Op: kmhttp.OpKeysByID, Retry: true, Err: fmt.Errorf("%w: keys that came can't be stored: %w", kmclient.ErrStore, err)}
	}
	return nil
}
