package crashtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
	"github.com/qkdmail/qkdmail/mailer/internal/relaytest"
)

// TestEtcd kills relays that have their store in a cluster of three nodes, and
// the node that leads.
func TestEtcd(t *testing.T) {
	for _, decrypters := range []int{2, 4} {
		t.Run(fmt.Sprint(decrypters), func(t *testing.T) {
			seed := uint64(relaytest.Number(t, seedEnv, int(time.Now().UnixNano()&0xFFFFFF)))
			t.Logf("seed %d", seed)
			cluster := etcdtest.Start(t, etcdtest.Options{Nodes: 3, TLS: true})
			w := newWorld(t, seed, failures, 2, decrypters, stores{inEtcd(t, cluster, "/a"), inEtcd(t, cluster, "/b")})
			c := newChaos(seed, w.relays)
			c.kills(500 * time.Millisecond)
			c.cuts(time.Second)
			long := seconds(t) / 2
			leaders := c.leaders(cluster, min(4*time.Second, long/2))
			run(t, w, c, long)
			claimed := idsIn(t, openEtcd(t, cluster, "/a"), keystore.KindClaim)
			kept := idsIn(t, openEtcd(t, cluster, "/b"), keystore.KindReceive)
			w.conclude(t, claimed, kept)
			if leaders.Load() == 0 {
				t.Errorf("no leader of etcd was killed: nothing is shown by that (seed %d)", seed)
			}
			t.Logf("the leader of etcd was killed %d times", leaders.Load())
		})
	}
}

// leaders kills the node that leads, and starts it again a little later; or it
// hangs for as long, though not the first one.
func (c *chaos) leaders(cluster *etcdtest.Cluster, most time.Duration) *atomic.Int64 {
	var kills atomic.Int64
	c.every(most, func(random *rand.Rand) {
		node := cluster.Leader()
		while := time.Duration(random.IntN(2500)) * time.Millisecond
		if random.IntN(3) == 0 && kills.Load() > 0 {
			cluster.Pause(node)
			time.Sleep(while)
			cluster.Resume(node)
			return
		}
		cluster.Kill(node)
		kills.Add(1)
		time.Sleep(while)
		cluster.Restart(node)
	})
	return &kills
}

// inEtcd is a store in a cluster, with a store key of its own.
func inEtcd(t testing.TB, c *etcdtest.Cluster, prefix string) storeOf {
	t.Helper()
	key := filepath.Join(t.TempDir(), "store.key")
	octets := make([]byte, 32)
	for i := range octets {
		octets[i] = byte(rand.Int())
	}
	if err := os.WriteFile(key, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	ca, cert, certKey := c.Files()
	s := storeOf{flags: []string{"--store-key", "file:" + key, "--store-ca", ca, "--store-cert", cert, "--store-cert-key", certKey}, ends: c.Endpoints()}
	s.url = "etcd://{0},{1},{2}" + prefix
	return s
}

func openEtcd(t testing.TB, c *etcdtest.Cluster, prefix string) keystore.Store {
	t.Helper()
	o := etcdstore.Options{Endpoints: c.Endpoints(), Prefix: prefix}
	o.CAFile, o.CertFile, o.KeyFile = c.Files()
	s, err := etcdstore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
