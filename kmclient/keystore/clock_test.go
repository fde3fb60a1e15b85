package keystore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A stepKit is a kit whose clock can be set, as by an administrator, while the process
// runs.
type stepKit struct {
	*kit
	running time.Duration
}

func newStepKit(t *testing.T) *stepKit {
	k := &stepKit{}
	k.kit = newKit(t, k.twoClocks)
	return k
}

// twoClocks gives a store a time that goes on whatever the clock is set to.
func (k *stepKit) twoClocks(_ *kit, o *keystore.Options) {
	o.Running = func() time.Duration { return k.running }
}

// pass lets time pass.
func (k *stepKit) pass(d time.Duration) {
	k.clock.add(d)
	k.running += d
}

// step sets the clock.
func (k *stepKit) step(d time.Duration) { k.clock.add(d) }

// restart replaces the store with that of a process started now.
func (k *stepKit) restart() {
	k.Store = k.another(k.twoClocks)
}

// received stores a key, binds it, and delivers its message to one of its
// recipients.
func (k *stepKit) received(name string) string {
	k.Helper()
	id := k.sent(1)[0]
	k.get(k.Store, id)
	k.bind(k.Store, name, id)
	k.deliver(k.Store, id, "first@x")
	return id
}

// The clock is years ahead for an hour, during which there is a sweep. The key of a
// message that some recipients have not received yet is not closed. No tombstone is
// removed, so that an old message can't come again.
func TestClockAheadForAWhile(t *testing.T) {
	k := newStepKit(t)
	closed := k.received("closed")
	k.pass(8 * day)
	k.sweep(k.Store)
	k.wantState(closed, kmclient.StateClosed)
	waiting := k.received("waiting")
	k.step(10 * 365 * day)
	k.pass(time.Hour)
	k.sweep(k.Store)
	if _, err := k.SweepAll(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(k.log.String(), "the clock was set") {
		t.Error("the log does not say that the clock was set")
	}
	k.step(-10 * 365 * day)
	k.wantState(waiting, kmclient.StateUsed)
	k.wantState(closed, kmclient.StateClosed)
	if has, err := k.Delivered(t.Context(), "A", k.message(closed), closed, "first@x"); err != nil || !has[0] {
		t.Errorf("the delivery is forgotten: %v, %v", has, err)
	}
	k.get(k.Store, waiting)
	k.deliver(k.Store, waiting, "second@x")
	k.pass(8 * day)
	k.sweep(k.Store)
	k.wantState(waiting, kmclient.StateClosed)
	k.pass(60 * day)
	k.sweep(k.Store)
	k.wantState(closed, "")
}

// The clock is years slow for a while. What happens then must not look old when the
// clock is right again, in this process or the next.
func TestClockBackForAWhile(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		k := newStepKit(t)
		k.pass(time.Hour)
		k.step(-10 * 365 * day)
		waiting, closed := k.received("waiting"), k.received("closed")
		if err := k.CloseKey(t.Context(), closed); err != nil {
			t.Fatal(err)
		}
		k.pass(time.Hour)
		k.sweep(k.Store)
		k.step(10 * 365 * day)
		if restarts {
			k.restart()
		}
		k.pass(2 * time.Hour)
		k.sweep(k.Store)
		k.wantState(waiting, kmclient.StateUsed)
		k.wantState(closed, kmclient.StateClosed)
		k.pass(8 * day)
		k.sweep(k.Store)
		k.wantState(waiting, kmclient.StateClosed)
		k.pass(50 * day)
		k.sweep(k.Store)
		k.wantState(closed, kmclient.StateClosed)
	}
}

// A process starts while the clock is years slow, and the clock is set right while it
// runs: nothing is closed too early, and the next process closes what is due.
func TestClockSetRightAfterStart(t *testing.T) {
	k := newStepKit(t)
	before := k.received("before")
	k.step(-10 * 365 * day)
	k.restart()
	k.pass(time.Hour)
	k.step(10 * 365 * day)
	waiting := k.received("waiting")
	for range 3 {
		k.pass(day)
		k.sweep(k.Store)
	}
	k.wantState(before, kmclient.StateUsed)
	k.wantState(waiting, kmclient.StateUsed)
	k.pass(5 * day)
	k.restart()
	k.sweep(k.Store)
	k.wantState(before, kmclient.StateClosed)
	k.wantState(waiting, kmclient.StateClosed)
}

// Of two processes, one has a clock that is years ahead. It puts off the next look at the
// keys of a message that nobody has received. Then the other process records a delivery,
// which is long due by the wrong clock. That must not be forgotten while the keys are open,
// or the message could be delivered again.
func TestClockAheadInOneOfTwo(t *testing.T) {
	for name, sweep := range map[string]func(*keystore.Store) error{
		"of what is due": func(s *keystore.Store) error { return s.Sweep(t.Context()) },
		"of all records": func(s *keystore.Store) error { _, err := s.SweepAll(t.Context(), false); return err },
	} {
		for _, named := range []int{0, 1} { // which of its keys the message names
			k := newStepKit(t)
			ahead := k.another(func(kit *kit, o *keystore.Options) {
				k.twoClocks(kit, o)
				o.Now = func() time.Time { return k.clock.Now().Add(29 * 365 * day) }
			})
			keys := k.sent(2)
			k.get(k.Store, keys...)
			k.bind(k.Store, "m", keys...)
			k.pass(time.Hour)
			k.sweep(ahead)
			k.deliver(k.Store, keys[named], rcpt)
			k.pass(time.Hour)
			if err := sweep(ahead); err != nil {
				t.Fatal(err)
			}
			k.sweep(k.Store)
			info, err := k.show(k.Store, keys[named])
			if err != nil {
				t.Fatal(err)
			}
			if info.State != kmclient.StateClosed && !k.has(k.Store, keys[named], rcpt) {
				t.Errorf("a sweep %s: key %d of the message is %s, and the delivery is forgotten", name, named, info.State)
			}
		}
	}
}

// A clock that is slewed a little, as clocks are, does not count as set.
func TestClockSlewed(t *testing.T) {
	k := newStepKit(t)
	id := k.received("m")
	for range 8 {
		k.pass(day)
		k.step(-time.Second)
	}
	k.sweep(k.Store)
	k.wantState(id, kmclient.StateClosed)
	if strings.Contains(k.log.String(), "the clock was set") {
		t.Error(k.log)
	}
}

// With the system's clock, nothing is logged.
func TestSystemClock(t *testing.T) {
	k := newKit(t, func(k *kit, o *keystore.Options) { o.Now, o.Close = nil, keystore.After(0) })
	id := k.sent(1)[0]
	k.get(k.Store, id)
	k.bind(k.Store, "m", id)
	k.deliver(k.Store, id, "a@x")
	info, err := k.show(k.Store, id)
	if err != nil || time.Since(info.Stored).Abs() > time.Minute || time.Since(info.Delivered).Abs() > time.Minute {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := k.SweepAll(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	k.wantState(id, kmclient.StateClosed)
}
