package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// An Info describes a receiving key, without its bytes. A time is zero until the event.
type Info struct {
	kmclient.KeyInfo           // Time is Stored
	Peer             string    // SAE ID of the sender
	Stored           time.Time // when it arrived
	InUse            time.Time // when it was handed out to decrypt
	Used             time.Time // when a message was verified under it, to which it has belonged since
	Closed           time.Time
	Message          string // that message's identity, in hexadecimal
	Frame            uint64 // of that message

	Delivered  time.Time // when the message was first delivered
	Recipients int       // how many have received it

	name engine.Name // of its record
}

func (k *keyRecord) info() Info {
	i := Info{
		KeyInfo: kmclient.KeyInfo{ID: k.spelled, Size: k.size, Time: k.stored, State: k.state},
		Peer:    k.peer, Stored: k.stored, InUse: k.inUse, Used: k.used, Closed: k.closed, Frame: k.frame, name: k.raw.Name,
	}
	if k.identity != (kmclient.Identity{}) {
		i.Message = hex.EncodeToString(k.identity[:])
	}
	return i
}

// listPage is the number of keys whose deliveries are looked up at a time.
const listPage = 64

// List iterates over the receiving keys of this key manager and SAE, including closed
// ones. Keys whose IDs are UUIDs come in the order of their IDs; the others may be
// anywhere among them. A damaged key comes with ErrRecord and what is known about it,
// at least the ID in its name, and the list goes on. Any other error ends the list.
func (s *Store) List(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		stop := errors.New("stop")
		var some []listed
		flush := func() error {
			if err := s.addDeliveries(ctx, some); err != nil {
				return err
			}
			for _, l := range some {
				if !yield(l.info, s.fail(opList, l.err)) {
					return stop
				}
			}
			some = some[:0]
			return nil
		}
		err := s.records.Each(ctx, s.name(engine.Receive, ""), s.within(engine.Receive), func(r *engine.Record, it *sealed.Item, err error) error {
			l := listed{Info{KeyInfo: kmclient.KeyInfo{ID: r.ID}, name: r.Name}, err}
			if err == nil {
				var k *keyRecord
				if k, l.err = asKey(it); l.err == nil {
					l.info = k.info()
					k.wipe()
				}
			}
			if some = append(some, l); len(some) == listPage {
				return flush()
			}
			return nil
		})
		if err == nil {
			err = flush()
		}
		if err != nil && err != stop {
			yield(Info{}, s.fail(opList, err))
		}
	}
}

// listed is a key that List yields.
type listed struct {
	info Info
	err  error
}

// addDeliveries looks up the deliveries of the keys' messages.
func (s *Store) addDeliveries(ctx context.Context, some []listed) error {
	var names []engine.Name
	at := map[string]int{} // a message may have many keys
	for _, l := range some {
		if id := l.info.Message; id != "" {
			if _, twice := at[id]; !twice {
				at[id] = len(names)
				names = append(names, s.name(engine.Message, id))
			}
		}
	}
	records, err := s.records.Engine.Get(ctx, names...)
	if err != nil {
		return err
	}
	for i := range some {
		l := &some[i]
		n, bound := at[l.info.Message]
		if !bound || records[n] == nil {
			continue
		}
		it, err := s.records.Open(ctx, records[n])
		if err == nil {
			var msg *messageRecord
			if msg, err = asMessage(it); err == nil {
				l.info.Delivered, l.info.Recipients = msg.first, len(msg.rcpts)
			}
		}
		if err != nil && !errors.Is(err, ErrRecord) {
			return err
		}
		l.err = errors.Join(l.err, err)
	}
	return nil
}

// ListKeys returns the receiving keys that are not closed, in the order of List.
func (s *Store) ListKeys(ctx context.Context) (infos []kmclient.KeyInfo, err error) {
	for info, err := range s.List(ctx) {
		if err != nil {
			return nil, err
		}
		if info.State != kmclient.StateClosed {
			infos = append(infos, info.KeyInfo)
		}
	}
	return infos, nil
}

// Show describes the receiving keys with an ID: one if it is a UUID, else one for each
// peer that uses it, for which Show reads the whole store. If there is none, the error
// is kmclient.ErrKeyNotFound.
func (s *Store) Show(ctx context.Context, id string) (infos []Info, err error) {
	if isUUID(id) {
		infos, err = s.showOne(ctx, id)
	} else {
		infos, err = s.showAll(ctx, id)
	}
	if err == nil && len(infos) == 0 {
		err = fmt.Errorf("%w: %.255q: it is not in the store", kmclient.ErrKeyNotFound, id)
	}
	return infos, s.fail(opList, err)
}

// showOne describes the key whose ID is a UUID, if there is one.
func (s *Store) showOne(ctx context.Context, id string) ([]Info, error) {
	k, err := s.keyRecord(ctx, "", id)
	if err != nil || k == nil {
		return nil, err
	}
	defer k.wipe()
	one := []listed{{info: k.info()}}
	if err := s.addDeliveries(ctx, one); err != nil {
		return nil, err
	}
	return []Info{one[0].info}, one[0].err
}

// showAll describes the keys of all peers with this ID. It skips unreadable records.
func (s *Store) showAll(ctx context.Context, id string) (infos []Info, err error) {
	for info, err := range s.List(ctx) {
		switch {
		case errors.Is(err, ErrRecord) && info.ID != id:
		case err != nil:
			return nil, err
		case info.ID == id:
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// Key returns a key that List or Show described, from the store alone. If it was closed
// since, the error is ErrClosed; if it is gone, kmclient.ErrKeyNotFound.
func (s *Store) Key(ctx context.Context, info Info) (*kmclient.Key, error) {
	k, err := s.key(ctx, info)
	return k, s.fail(opList, err)
}

func (s *Store) key(ctx context.Context, info Info) (*kmclient.Key, error) {
	items, err := s.records.Get(ctx, info.name)
	if err != nil {
		return nil, err
	}
	if items[0] == nil {
		return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, info.ID)
	}
	k, err := asKey(items[0])
	if err != nil {
		return nil, err
	}
	defer k.wipe()
	if err := s.usable(k, k.peer); err != nil {
		return nil, err
	}
	return k.key(k.spelled), nil
}
