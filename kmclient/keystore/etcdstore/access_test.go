package etcdstore_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
)

// refused wants Open to fail within the time-out of its options, with an error
// that has these words and names the endpoints, and is of this kind.
func refused(t *testing.T, o etcdstore.Options, kind error, words string) {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 1500 * time.Millisecond
	}
	s, err := etcdstore.Open(t.Context(), o)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) ||
		kind == kmclient.ErrStore && !strings.Contains(err.Error(), strings.Join(o.Endpoints, ",")) {
		t.Errorf("got %v, want %v: … %s", err, kind, words)
	}
	if err != nil {
		t.Log(err)
	}
}

// What is wrong with the way to the cluster is said when it is opened.
func TestTLS(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{TLS: true})
	good := options(c, "")
	foreignCA, foreignCert, foreignKey := c.ForeignFiles()

	o := good
	o.CertFile, o.KeyFile = foreignCert, foreignKey
	refused(t, o, kmclient.ErrStore, "it refuses the client certificate")
	o = good
	o.CertFile, o.KeyFile = "", ""
	refused(t, o, kmclient.ErrStore, "it refuses the client certificate")
	o = good
	o.CAFile = foreignCA
	refused(t, o, kmclient.ErrStore, "certificate signed by unknown authority")
	o = good
	o.CAFile, o.CertFile, o.KeyFile = "", "", ""
	refused(t, o, kmclient.ErrStore, "only one side uses TLS")
	o = good
	o.KeyFile = foreignKey
	refused(t, o, kmclient.ErrConfig, "private key does not match")
	o = good
	o.KeyFile = ""
	refused(t, o, kmclient.ErrConfig, "needs its private key")
	o = good
	o.CAFile = o.KeyFile
	refused(t, o, kmclient.ErrConfig, "no certificate")
	o = good
	o.TLS = c.TLS()
	refused(t, o, kmclient.ErrConfig, "exclude each other")

	o = etcdstore.Options{Endpoints: c.Endpoints(), TLS: c.TLS()}
	put(t, openStore(t, o), record("a", "1"))
}

// A certificate that was renewed is used by the next connection; one that can't
// be used leaves the old one in use.
func TestRenewed(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{TLS: true})
	o := options(c, "")
	dir := t.TempDir()
	foreignCA, foreignCert, foreignKey := c.ForeignFiles()
	ca := o.CAFile
	replace := func(cert, key string) {
		t.Helper()
		for to, from := range map[string]string{"c.crt": cert, "c.key": key, "ca.crt": ca} {
			text, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, to), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cert, key := o.CertFile, o.KeyFile
	o.CertFile, o.KeyFile, o.CAFile = filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key"), filepath.Join(dir, "ca.crt")
	o.Timeout = 3 * time.Second
	replace(cert, key)
	s := openStore(t, o)

	replace(cert, foreignKey)
	c.Restart(0)
	if _, err := s.Get(t.Context(), name("a")); err != nil {
		t.Errorf("with files that don't belong together: %v", err)
	}
	replace(foreignCert, foreignKey)
	c.Restart(0)
	if _, err := s.Get(t.Context(), name("a")); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("with another certificate: %v, want it refused", err)
	}
	replace(cert, key)
	c.Restart(0)
	if _, err := s.Get(t.Context(), name("a")); err != nil {
		t.Errorf("with the first certificate again: %v", err)
	}
	good := ca
	ca = foreignCA
	replace(cert, key)
	c.Restart(0)
	if _, err := s.Get(t.Context(), name("a")); !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("with a CA that has not issued etcd's certificate: %v, want it refused", err)
	}
	ca = good
	replace(cert, key)
	c.Restart(0)
	if _, err := s.Get(t.Context(), name("a")); err != nil {
		t.Errorf("with the first CA again: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it accepts and never answers
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	fast := func(endpoints ...string) etcdstore.Options {
		return etcdstore.Options{Endpoints: endpoints, Timeout: time.Second}
	}
	refused(t, fast(free.Addr().String()), kmclient.ErrStore, "connection refused")
	refused(t, fast(l.Addr().String()), kmclient.ErrStore, "no answer in time")
	refused(t, fast("no-such-host.invalid:1"), kmclient.ErrStore, "no-such-host.invalid")
	refused(t, etcdstore.Options{}, kmclient.ErrConfig, "0 etcd endpoints")
	refused(t, fast("http://127.0.0.1:1"), kmclient.ErrConfig, "without a scheme")
	o := fast("127.0.0.1:1")
	o.Prefix = "x"
	refused(t, o, kmclient.ErrConfig, "must be /PART")
	o = fast("127.0.0.1:1")
	o.Timeout = -1
	refused(t, o, kmclient.ErrConfig, "negative")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := etcdstore.Open(ctx, etcdstore.Options{Endpoints: []string{free.Addr().String()}}); !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller has given up: %v", err)
	}
}

// A cluster whose limits are lower than etcd's own is refused before anything
// depends on it.
func TestLowLimits(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{Args: []string{"--max-txn-ops=100"}})
	refused(t, options(c, ""), kmclient.ErrStore, "--max-txn-ops must be 128 or more")
	c = etcdtest.Start(t, etcdtest.Options{Args: []string{"--max-request-bytes=100000"}})
	s := openStore(t, options(c, ""))
	err := s.Apply(t.Context(), keystore.Change{New: record("a", strings.Repeat("v", 200_000))})
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "--max-request-bytes") {
		t.Error(err)
	}
	put(t, s, record("a", "small"))
}

// Where etcd's own authentication is on, the certificate names the user, who
// needs no more than the keys of the prefix.
func TestUser(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{TLS: true})
	admin := c.Client()
	ctx := t.Context()
	noPassword := &clientv3.UserAddOptions{NoPassword: true}
	for _, err := range []error{
		second(admin.UserAddWithOptions(ctx, "root", "", noPassword)), second(admin.UserGrantRole(ctx, "root", "root")),
		second(admin.UserAddWithOptions(ctx, etcdtest.User, "", noPassword)), second(admin.RoleAdd(ctx, "keys")),
		second(admin.RoleGrantPermission(ctx, "keys", "/mail/", clientv3.GetPrefixRangeEnd("/mail/"), clientv3.PermissionType(clientv3.PermReadWrite))),
		second(admin.UserGrantRole(ctx, etcdtest.User, "keys")), second(admin.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, options(c, "/mail"))
	r := record("a", "1")
	r.Due = time.Unix(1, 0)
	put(t, s, r)
	if all, err := s.List(ctx, keystore.Name{}, 10); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if due, err := s.Due(ctx, "km", "sae", time.Now(), 10); err != nil || len(due) != 1 {
		t.Errorf("%v, %v", due, err)
	}
	if err := s.Compact(ctx); err != nil {
		t.Error(err)
	}
	refused(t, options(c, "/other"), kmclient.ErrStore, "may not read and write this prefix")
}

func second[T any](_ T, err error) error { return err }
