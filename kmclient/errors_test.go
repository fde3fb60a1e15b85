package kmclient

import (
	"context"
	"errors"
	"testing"
)

func TestGaveUp(t *testing.T) {
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	reason := errors.New("the relay is stopped")
	explained, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(reason)
	for ctx, cause := range map[context.Context]error{plain: context.Canceled, explained: reason} {
		if err := GaveUp(ctx); !errors.Is(err, ErrUnavailable) || !errors.Is(err, cause) {
			t.Errorf("got %v, want an ErrUnavailable with %v", err, cause)
		}
	}
}
