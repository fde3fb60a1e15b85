package mailer

import (
	"context"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/keygate"
)

// A stopwatch adds up how long a message waits for the key manager and the key store.
type stopwatch struct{ waited time.Duration }

func (w *stopwatch) since(start time.Time) { w.waited += time.Since(start) }

// A timedSource gets the keys to encrypt a message with, and times that. take takes the
// memory for them.
type timedSource struct {
	cipher.KeySource
	take func(n int64) error
	stopwatch
	status *kmclient.Status // as it was given for this message
}

// Status is asked for once per message.
func (t *timedSource) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	if t.status != nil {
		return *t.status, nil
	}
	defer t.since(time.Now())
	s, err := t.KeySource.Status(ctx, peer)
	if err == nil {
		t.status = &s
	}
	return s, err
}

func (t *timedSource) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if err := t.take(int64(number) * keyMemory); err != nil {
		return nil, err
	}
	defer t.since(time.Now())
	return t.KeySource.GetKeys(ctx, peer, size, number)
}

// boundedKeys bounds every wait for a key manager.
type boundedKeys struct {
	source cipher.KeySource
	within time.Duration
}

func (b boundedKeys) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, b.within)
	defer cancel()
	return b.source.Status(ctx, peer)
}

func (b boundedKeys) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, b.within)
	defer cancel()
	return b.source.GetKeys(ctx, peer, size, number)
}

// A timedGate gets the keys to decrypt a message with, and times that. take takes the
// memory for them.
type timedGate struct {
	*keygate.Gate
	client string
	take   func(n int64) error
	stopwatch
}

func (t *timedGate) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	if err := t.take(int64(len(ids)) * keyMemory); err != nil {
		return nil, err
	}
	defer t.since(time.Now())
	return t.Gate.KeysByID(ctx, t.client, peer, ids...)
}

func (t *timedGate) BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error {
	defer t.since(time.Now())
	return t.Gate.BindKeys(ctx, peer, identity, frame, ids...)
}
