package kmclient

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestCanceled(t *testing.T) {
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	reason := errors.New("the relay is stopped")
	explained, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(reason)
	for ctx, cause := range map[context.Context]error{plain: context.Canceled, explained: reason} {
		if err := Canceled(ctx); !errors.Is(err, ErrUnavailable) || !errors.Is(err, cause) {
			t.Errorf("got %v, want an ErrUnavailable with %v", err, cause)
		}
	}
}

func TestError(t *testing.T) {
	err := error(&Error{
		Op: "get keys", Status: 503, Message: "busy", Retry: true,
		Err: fmt.Errorf("%w: %w", ErrUnavailable, context.Canceled),
	})
	const want = `get keys: key manager unavailable: context canceled (HTTP 503): key manager says "busy"`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) || errors.Is(err, ErrBadKey) {
		t.Error("the sentinel and the cause should be visible to errors.Is, and nothing else")
	}
	if e, ok := errors.AsType[*Error](fmt.Errorf("mail: %w", err)); !ok || !e.Retry {
		t.Error("a wrapped *Error is not found by errors.As")
	}
}
