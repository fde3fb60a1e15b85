package messagecmd

import (
	"context"
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// closing answers CloseKey with an error for each key ID.
type closing struct {
	kmclient.KeyManager
	errs map[string]error
}

func (c closing) CloseKey(_ context.Context, id string) error { return c.errs[id] }

// TestCloseKeysOf: it is no error if another program has closed a key in the meantime.
// A key that the key manager does not know is no error only if an earlier run may have
// closed it.
func TestCloseKeysOf(t *testing.T) {
	km := closing{errs: map[string]error{"closed": keystore.ErrClosed, "unknown": kmclient.ErrKeyNotFound, "down": kmclient.ErrUnavailable}}
	for _, tt := range []struct {
		ids   []string
		again bool
		want  error
	}{
		{[]string{"open", "closed"}, false, nil},
		{[]string{"closed", "unknown"}, true, nil},
		{[]string{"closed", "unknown"}, false, kmclient.ErrKeyNotFound},
		{[]string{"closed", "down"}, true, kmclient.ErrUnavailable},
	} {
		if err := closeKeysOf(t.Context(), km, &cipher.Info{KeyIDs: tt.ids}, tt.again); !errors.Is(err, tt.want) {
			t.Errorf("%q, again %t: %v, want %v", tt.ids, tt.again, err, tt.want)
		}
	}
}
