package keystore_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// An engine that is slow to fail, like a file that another process has locked, fails
// once for all waiting callers, not once for each.
func TestSlowFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		ids := k.sent(9)
		const slow = 10 * time.Second
		k.engine.slow = slow
		k.engine.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", ids[0])
		k.want(err, kmclient.ErrStore, true)

		start := time.Now()
		var all sync.WaitGroup
		for _, id := range ids[1:] {
			all.Go(func() {
				_, err := k.KeysByID(t.Context(), "A", id)
				k.want(err, kmclient.ErrStore, true)
			})
		}
		all.Wait()
		if took := time.Since(start); took > slow {
			t.Errorf("with a store that fails after %v, %d simultaneous callers waited for %v", slow, len(ids)-1, took)
		}
		if n := k.Stats().Waiting; n != 1 || k.km.given != 1 {
			t.Errorf("%d keys wait, %d were fetched; want 1", n, k.km.given)
		}

		k.engine.set(nil, false)
		for _, id := range ids {
			all.Go(func() { k.get(k.Store, id) })
		}
		all.Wait()
		if n := k.Stats().Waiting; n != 0 {
			t.Errorf("%d keys still wait", n)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A key that could not be stored is only in memory, and no other relay can get it: it
// is stored as soon as possible, without waiting for a call.
func TestWaitingIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		id := k.sent(1)[0]
		k.engine.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", id)
		k.want(err, kmclient.ErrStore, true)
		time.Sleep(time.Hour)
		if n := k.engine.applies(); n < 10 || n > 1000 {
			t.Errorf("%d attempts to store a key within an hour", n)
		}
		k.engine.set(nil, false)
		time.Sleep(time.Minute)
		if n := k.Stats().Waiting; n != 0 {
			t.Errorf("%d keys still wait a minute after the store works again", n)
		}
		k.get(k.another(nil), id)
	})
}

// Close does not wait for a store that stays broken, and its error says what is lost.
func TestCloseWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.engine.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", k.sent(1)[0])
		k.want(err, kmclient.ErrStore, true)
		if err := k.Close(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("Close: %v; want %v", err, errDisk)
		}
	})
}

// Close does not wait forever; a key that is being stored at that moment is whole.
func TestCloseWhileFlushing(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.engine.set(errDisk, false)
	_, err := k.KeysByID(t.Context(), "A", ids...)
	k.want(err, kmclient.ErrStore, true)
	k.engine.set(nil, false)
	slow := &slowEngine{Engine: k.engine.Engine, in: make(chan struct{}), out: make(chan struct{}), swept: make(chan error)}
	k.engine.Engine = slow
	go func() { slow.swept <- k.Sweep(context.Background()) }()
	<-slow.in
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := k.Close(ctx); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("Close: %v, want ErrUnavailable", err)
	}
	k.get(k.another(nil), ids...)
}

// A slowEngine first reports a conflict, and is slow to read the receiving keys that
// follow. Its Close lets requests under way finish.
type slowEngine struct {
	engine.Engine
	conflict, look sync.Once
	in, out        chan struct{}
	swept          chan error
}

func (s *slowEngine) Close() error {
	close(s.out)
	return errors.Join(<-s.swept, s.Engine.Close())
}

func (s *slowEngine) Apply(ctx context.Context, changes ...engine.Change) (err error) {
	s.conflict.Do(func() { err = engine.ErrConflict })
	if err != nil {
		return err
	}
	return s.Engine.Apply(ctx, changes...)
}

func (s *slowEngine) Get(ctx context.Context, names ...engine.Name) ([]*engine.Record, error) {
	if slices.ContainsFunc(names, func(n engine.Name) bool { return n.Kind == engine.Receive }) {
		s.look.Do(func() {
			close(s.in)
			<-s.out
		})
	}
	return s.Engine.Get(ctx, names...)
}

// A log handler may ask for the counts.
func TestLogsWithoutLock(t *testing.T) {
	k := newKit(t, nil)
	h := &asking{Handler: slog.DiscardHandler}
	k.Store = k.another(func(_ *kit, o *keystore.Options) { o.Logger = slog.New(h) })
	h.m = k.Store
	k.engine.set(errDisk, false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := k.KeysByID(ctx, "A", k.sent(1)...)
	k.want(err, kmclient.ErrStore, true)
}

type asking struct {
	slog.Handler
	m *keystore.Store
}

func (a *asking) Enabled(context.Context, slog.Level) bool { return true }

func (a *asking) Handle(context.Context, slog.Record) error {
	_ = a.m.Stats()
	return nil
}
