package keystore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// If a claim takes several commits, the alarm is about the key that came again, not
// about those that the same call claimed.
func TestReusedInALaterCommit(t *testing.T) {
	k := newKit(t, nil)
	first, err := k.GetKeys(t.Context(), "A", 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		k.km.next = append(k.km.next, fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
	}
	k.km.next = append(k.km.next, first[0].ID())
	_, err = k.GetKeys(t.Context(), "A", 256, 31)
	k.want(err, keystore.ErrReused, true)
	if n := k.Stats().Reused; n != 1 || !strings.Contains(err.Error(), first[0].ID()) {
		t.Errorf("%d keys count as reused, want the one that came again: %v", n, err)
	}
}
