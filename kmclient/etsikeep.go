package kmclient

import (
	"fmt"
	"maps"
	"slices"
)

// A KeepFunc takes over keys that a client holds while nobody has got them: it
// keeps them where they outlive the process, and wipes these. If it can't do so
// now, it keeps them in memory until it can, and the error says why no more of
// them should be fetched.
type KeepFunc func(peer string, keys []*Key) error

// KeepWith has keys handed over that would otherwise wait in memory, and be lost
// with the process: those of a request that is not the last of its call, before
// the next one is made; and those of a call that fails, or whose caller has
// given up. A key may be handed over twice. It is to be called before the first
// KeysByID; keep is for a store that stands before this client and will not ask
// it for these keys again.
func (e *ETSI014) KeepWith(keep KeepFunc) { e.keep = keep }

// setAside keeps the keys of a look-up that failed or that nobody waits for.
func (e *ETSI014) setAside(l *lookup) {
	switch {
	case e.keep == nil:
		e.kept.add(l.peer, l.found)
	case len(l.found) > 0:
		_ = e.keep(l.peer, slices.Collect(maps.Values(l.found))) // the caller has an error already, or has gone
	}
}

// secure hands over copies of keys that came before others of the same call.
func (e *ETSI014) secure(l *lookup, found map[string]*Key) *Error {
	if e.keep == nil || len(found) == 0 || len(l.missing()) == 0 {
		return nil
	}
	copies := make([]*Key, 0, len(found))
	for _, k := range found {
		copies = append(copies, NewKey(k.ID(), slices.Clone(k.Reveal())))
	}
	if err := e.keep(l.peer, copies); err != nil {
		return &Error{Op: operationKeysByID, Retry: true, Err: fmt.Errorf("%w: keys that came can't be stored: %w", ErrStore, err)}
	}
	return nil
}
