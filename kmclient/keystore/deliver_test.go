package keystore_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// What can't be recorded is refused before it is delivered; who has got it at the
// same time as others is not told to try again.
func TestTooManyRecipients(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.get(k.Manager, ids...)
	k.bind(k.Manager, "m", ids...)
	if err := k.Fill(t.Context(), ids[0], keystore.MaxRecipients-1); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Delivered(t.Context(), ids[0], "a@x"); err != nil {
		t.Error(err)
	}
	_, err := k.Delivered(t.Context(), ids[0], "a@x", "b@x")
	k.want(err, kmclient.ErrBadRequest, false)

	k.deliver(k.Manager, ids[0], "a@x", "b@x")
	k.deliver(k.Manager, ids[0], "c@x")
	if info, err := k.Show(t.Context(), ids[0]); err != nil || info.Recipients != keystore.MaxRecipients {
		t.Errorf("%d recipients are recorded (%v), want %d", info.Recipients, err, keystore.MaxRecipients)
	}
	if has, err := k.Delivered(t.Context(), ids[0], "a@x"); err != nil || !has[0] {
		t.Errorf("the last one to be recorded is not: %v, %v", has, err)
	}
	if n := strings.Count(k.log.String(), "more recipients than can be recorded"); n != 2 {
		t.Errorf("%d warnings, want 2: %s", n, k.log)
	}
}
