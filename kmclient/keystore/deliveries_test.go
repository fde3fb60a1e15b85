package keystore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A delivery that can't be recorded is refused beforehand; if it was made at the same
// time as others, that is not an error.
func TestTooManyRecipients(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	if err := k.Fill(t.Context(), ids[0], keystore.MaxRecipients-1); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Delivered(t.Context(), "A", id("m"), ids[0], "a@x"); err != nil {
		t.Error(err)
	}
	_, err := k.Delivered(t.Context(), "A", id("m"), ids[0], "a@x", "b@x")
	k.want(err, kmclient.ErrBadRequest, false)

	k.deliver(k.Store, ids[0], "a@x", "b@x")
	k.deliver(k.Store, ids[0], "c@x")
	if info, err := k.show(k.Store, ids[0]); err != nil || info.Recipients != keystore.MaxRecipients {
		t.Errorf("%d recipients are recorded (%v), want %d", info.Recipients, err, keystore.MaxRecipients)
	}
	if has, err := k.Delivered(t.Context(), "A", id("m"), ids[0], "a@x"); err != nil || !has[0] {
		t.Errorf("the last one to be recorded is not: %v, %v", has, err)
	}
	if n := strings.Count(k.log.String(), "more recipients than can be recorded"); n != 2 {
		t.Errorf("%d warnings, want 2: %s", n, k.log)
	}
}

// A delivery belongs to a message. A message that names a delivered message's key does
// not count as delivered itself, whatever has become of the key.
func TestDeliveryOfAMessage(t *testing.T) {
	const bob, carol = "bob@x", "carol@x"
	open := func(*deliveryKit) {}
	shut := func(k *deliveryKit) {
		for _, key := range []string{k.first, k.second, k.free} {
			if err := k.CloseKey(k.Context(), key); err != nil {
				k.Fatal(err)
			}
		}
	}
	gone := func(k *deliveryKit) { // the tombstones are removed before the record of the delivery
		shut(k)
		k.clock.add(61 * day)
		k.sweep(k.Store)
		k.wantState(k.first, "")
	}
	none := keystore.Stats{}
	bound, closed := keystore.Stats{BoundRefused: 1}, keystore.Stats{ClosedRefused: 1}
	for name, c := range map[string]struct {
		state   func(*deliveryKit)
		key     func(*deliveryKit) string
		message string
		rcpts   []string
		want    []bool // nil: ErrBound
		alarm   keystore.Stats
	}{
		"the message again":                                   {open, (*deliveryKit).one, "one", []string{bob}, []bool{true}, none},
		"the message, to another as well":                     {open, (*deliveryKit).one, "one", []string{carol, bob}, []bool{false, true}, none},
		"another message":                                     {open, (*deliveryKit).one, "two", []string{bob}, nil, bound},
		"another message, to another":                         {open, (*deliveryKit).one, "two", []string{carol}, nil, bound},
		"no identity":                                         {open, (*deliveryKit).one, "", []string{bob}, nil, bound},
		"a key of no message":                                 {open, (*deliveryKit).unbound, "one", []string{bob}, nil, bound},
		"another key of the message":                          {open, (*deliveryKit).two, "one", []string{bob}, []bool{true}, none},
		"closed: the message again":                           {shut, (*deliveryKit).one, "one", []string{bob}, []bool{true}, none},
		"closed: the message, to another":                     {shut, (*deliveryKit).one, "one", []string{carol}, []bool{false}, closed},
		"closed: the message, to another as well":             {shut, (*deliveryKit).one, "one", []string{bob, carol}, []bool{true, false}, closed},
		"closed: another message":                             {shut, (*deliveryKit).one, "two", []string{bob}, nil, bound},
		"closed: another message, to another":                 {shut, (*deliveryKit).one, "two", []string{carol}, nil, bound},
		"closed: another message, with the second key":        {shut, (*deliveryKit).two, "two", []string{bob}, nil, bound},
		"closed: another message, with the ID spelled anew":   {shut, (*deliveryKit).upper, "two", []string{bob}, nil, bound},
		"closed: no identity":                                 {shut, (*deliveryKit).one, "", []string{bob}, nil, bound},
		"closed: a key of no message":                         {shut, (*deliveryKit).unbound, "one", []string{bob}, nil, bound},
		"closed: another key of the message":                  {shut, (*deliveryKit).two, "one", []string{bob}, []bool{true}, none},
		"tombstone gone: the message again":                   {gone, (*deliveryKit).one, "one", []string{bob}, []bool{true}, none},
		"tombstone gone: the message, to another":             {gone, (*deliveryKit).one, "one", []string{carol}, []bool{false}, none},
		"tombstone gone: another message":                     {gone, (*deliveryKit).one, "two", []string{bob, carol}, []bool{false, false}, none},
		"unknown key: another message, to whoever got it one": {open, (*deliveryKit).unknown, "two", []string{bob}, []bool{false}, none},
	} {
		t.Run(name, func(t *testing.T) {
			k := &deliveryKit{kit: newKit(t, nil)}
			ids := k.sent(3)
			k.first, k.second, k.free = ids[0], ids[1], ids[2]
			k.get(k.Store, ids...)
			k.bind(k.Store, "one", k.first, k.second)
			k.deliver(k.Store, k.first, bob)
			c.state(k)
			identity := id(c.message)
			if c.message == "" {
				identity = kmclient.Identity{}
			}
			for relay, m := range map[string]*keystore.Store{"this relay": k.Store, "another": k.another(nil)} {
				has, err := m.Delivered(t.Context(), "A", identity, c.key(k), c.rcpts...)
				if c.want == nil {
					k.want(err, keystore.ErrBound, false)
				}
				if (err == nil) != (c.want != nil) || !slices.Equal(has, c.want) {
					t.Errorf("%s: delivered %v, error %v, want %v", relay, has, err, c.want)
				}
				s := m.Stats()
				if s.BoundRefused != c.alarm.BoundRefused || s.ClosedRefused != c.alarm.ClosedRefused {
					t.Errorf("%s: %d alarms for a bound key and %d for a closed one, want %+v", relay, s.BoundRefused, s.ClosedRefused, c.alarm)
				}
			}
		})
	}
}

// A deliveryKit has a message that was delivered.
type deliveryKit struct {
	*kit
	first, second string // its keys
	free          string // a key without a message
}

func (k *deliveryKit) one() string     { return k.first }
func (k *deliveryKit) two() string     { return k.second }
func (k *deliveryKit) upper() string   { return strings.ToUpper(k.first) }
func (k *deliveryKit) unbound() string { return k.free }
func (k *deliveryKit) unknown() string { return "unknown" }

// Nothing is recorded for a message to which the key does not belong.
func TestRecordOfAnotherMessage(t *testing.T) {
	for name, closes := range map[string]bool{"open": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, nil)
			key := k.sent(1)[0]
			k.get(k.Store, key)
			k.bind(k.Store, "one", key)
			if closes {
				if err := k.CloseKey(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range []*keystore.Store{k.Store, k.another(nil)} {
				k.want(m.RecordDelivered(t.Context(), "A", id("two"), key, rcpt), keystore.ErrBound, false)
				if s := m.Stats(); s.BoundRefused != 1 || s.Delivered != 0 {
					t.Errorf("%+v, want one alarm and nothing recorded", s)
				}
			}
			if has := k.has(k.Store, key, rcpt); has {
				t.Error("the recipient counts as having the key's message, which was delivered to nobody")
			}
			k.deliver(k.Store, key, rcpt)
			if has := k.has(k.Store, key, rcpt); !has {
				t.Error("the recipient does not count as having the key's message, which was delivered")
			}
		})
	}
}

// Another relay binds a key that was unbound when this one saw it: this is not an
// alarm.
func TestBoundByAnotherSinceSeen(t *testing.T) {
	k := newKit(t, nil)
	key := k.sent(1)[0]
	k.get(k.Store, key)
	other := k.another(nil)
	k.bind(other, "one", key)
	k.deliver(other, key, rcpt)
	if !k.has(k.Store, key, rcpt) || k.Stats().BoundRefused != 0 {
		t.Errorf("this relay does not know about another relay's delivery: %+v", k.Stats())
	}
	_, err := k.Delivered(t.Context(), "A", id("two"), key, rcpt)
	k.want(err, keystore.ErrBound, false)
}
