//go:build unix

package etcdstore_test

import (
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
)

// A member that hangs does not stop those who read: others are asked.
func TestHanging(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{Nodes: 3})
	o := options(c, "")
	o.Timeout = 6 * time.Second
	s := openStore(t, o)
	put(t, s, record("a", "1"))
	hangs := (c.Leader() + 1) % 3
	c.Pause(hangs)
	defer c.Resume(hangs)
	for range 6 {
		if r := get(t, s, "a"); r == nil {
			t.Error("the record is gone")
		}
	}
}
