package etcdtest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/qkdmail/qkdmail/kmclient/kmserver"
)

// User is the common name of a client's certificate.
const User = "client"

const (
	program  = "etcd"
	tries    = 5                // to start a cluster: a free port may not stay free
	patience = 60 * time.Second // for a cluster to be ready, on a busy machine
)

// Options of a cluster. The zero value is one node without TLS.
type Options struct {
	Nodes int      // 1 if zero
	TLS   bool     // mutual, between the clients and the nodes
	Args  []string // more arguments for each etcd, as --quota-backend-bytes=…
}

// A Cluster runs until the end of its test.
type Cluster struct {
	o     Options
	t     testing.TB
	dir   string
	nodes []*node
}

type node struct {
	name         string
	client, peer string // HOST:PORT
	cmd          *exec.Cmd
	done         chan struct{} // closed when cmd has ended
}

// Start starts a cluster and returns once it has a leader.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("SKIPPED: etcd is not installed (Debian: etcd-server)")
	}
	o.Nodes = cmp.Or(o.Nodes, 1)
	c := &Cluster{o: o, t: t, dir: t.TempDir()}
	if o.TLS {
		for _, dir := range []string{"", "foreign"} {
			if _, err := kmserver.WriteCerts(filepath.Join(c.dir, dir), kmserver.CertOptions{KMEs: []string{"etcd"}, SAEs: []string{User}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(c.killAll)
	for try := 1; ; try++ {
		err := c.start(try)
		if err == nil {
			return c
		}
		if try == tries {
			t.Fatalf("etcd does not start: %v\n%s", err, c.logs())
		}
		c.killAll()
	}
}

// start starts the nodes with new ports, in new folders.
func (c *Cluster) start(try int) error {
	c.nodes = nil
	for i := range c.o.Nodes {
		ports, err := freePorts()
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, &node{name: fmt.Sprintf("n%d-%d", try, i), client: ports[0], peer: ports[1]})
	}
	for i := range c.nodes {
		if err := c.run(i); err != nil {
			return err
		}
	}
	return c.wait(patience)
}

func freePorts() (ports [2]string, err error) {
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports, err
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().String()
	}
	return ports, nil
}

// run starts the process of a node.
func (c *Cluster) run(i int) error {
	n := c.nodes[i]
	log, err := os.OpenFile(c.file(n.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	n.cmd = exec.Command(program, append(c.args(n), c.o.Args...)...)
	n.cmd.Env = withoutETCD(os.Environ())
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = diesWithParent()
	if err := n.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	n.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // an error if it was killed
		close(done)
	}(n.cmd)
	return nil
}

// member returns the arguments that say which node of the cluster one is.
func (c *Cluster) member(n *node) []string {
	var all []string
	for _, o := range c.nodes {
		all = append(all, o.name+"=http://"+o.peer)
	}
	return []string{
		"--name", n.name, "--data-dir", c.file(n.name), "--initial-advertise-peer-urls", "http://" + n.peer,
		"--initial-cluster", strings.Join(all, ","), "--initial-cluster-token", c.dir,
	}
}

func (c *Cluster) args(n *node) []string {
	url := c.scheme() + n.client
	args := append(c.member(n), "--logger", "zap", "--listen-peer-urls", "http://"+n.peer,
		"--listen-client-urls", url, "--advertise-client-urls", url)
	if c.o.TLS {
		args = append(args, "--client-cert-auth", "--trusted-ca-file", c.file("ca.crt"), "--cert-file", c.file("etcd.crt"),
			"--key-file", c.file("etcd.key"), "--enable-grpc-gateway=false") // which would be a client with etcd's certificate
	}
	return args
}

// withoutETCD leaves out what would be settings of etcd.
func withoutETCD(env []string) (kept []string) {
	for _, e := range env {
		if !strings.HasPrefix(e, "ETCD_") {
			kept = append(kept, e)
		}
	}
	return kept
}

func (c *Cluster) scheme() string {
	if c.o.TLS {
		return "https://"
	}
	return "http://"
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// wait waits until all nodes that should run answer, and know a leader.
func (c *Cluster) wait(patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		err := c.ready()
		if err == nil {
			return nil
		}
		if errors.Is(err, errEnded) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var errEnded = errors.New("etcd has ended")

func (c *Cluster) ready() error {
	for i, n := range c.nodes {
		if n.cmd == nil {
			continue
		}
		select {
		case <-n.done:
			return errEnded
		default:
		}
		s, err := c.status(i)
		if err != nil {
			return err
		}
		if s.Leader == 0 {
			return errors.New("no leader")
		}
	}
	return nil
}

// status asks one node.
func (c *Cluster) status(i int) (*clientv3.StatusResponse, error) {
	client, err := c.dial(c.nodes[i].client)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return client.Status(ctx, c.nodes[i].client)
}

func (c *Cluster) dial(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: c.TLS(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// Client returns a client of the whole cluster, for the length of the test.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	client, err := c.dial(c.Endpoints()...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Endpoints returns HOST:PORT of each node for clients, in the order of their
// numbers, which begin with 0.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, n.client)
	}
	return all
}

// Files returns the files of a client's TLS, "" without TLS.
func (c *Cluster) Files() (ca, cert, key string) {
	if !c.o.TLS {
		return "", "", ""
	}
	return c.file("ca.crt"), c.file(User + ".crt"), c.file(User + ".key")
}

// ForeignFiles returns a certificate and its key that the nodes refuse: a CA
// that they don't know has issued it.
func (c *Cluster) ForeignFiles() (ca, cert, key string) {
	return c.file("foreign/ca.crt"), c.file("foreign/" + User + ".crt"), c.file("foreign/" + User + ".key")
}

// TLS returns a client's TLS configuration, nil without TLS.
func (c *Cluster) TLS() *tls.Config {
	if !c.o.TLS {
		return nil
	}
	ca, cert, key := c.Files()
	pem, err := os.ReadFile(ca)
	if err != nil {
		c.t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// Leader returns the number of the node that leads.
func (c *Cluster) Leader() int {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for i, n := range c.nodes {
			if n.cmd == nil {
				continue
			}
			if s, err := c.status(i); err == nil && s.Leader == s.Header.MemberId {
				return i
			}
		}
	}
	c.t.Fatalf("no leader within %v\n%s", patience, c.logs())
	return -1
}

// Kill ends a node with SIGKILL, as a crash would.
func (c *Cluster) Kill(i int) { c.end(i, syscall.SIGKILL) }

func (c *Cluster) end(i int, how syscall.Signal) {
	n := c.nodes[i]
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(how)
	select {
	case <-n.done:
	case <-time.After(patience):
		_ = n.cmd.Process.Kill()
		<-n.done
	}
	n.cmd = nil
}

// Restart ends a node in good order and starts it again, with its data. It returns
// once the node takes part; that needs a majority.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	c.end(i, syscall.SIGTERM)
	err := c.run(i)
	if err == nil {
		err = c.wait(patience)
	}
	if err != nil {
		c.t.Fatalf("etcd does not start again: %v\n%s", err, c.logs())
	}
}

func (c *Cluster) killAll() {
	for i := range c.nodes {
		c.Kill(i)
	}
}

// logs returns the end of what the nodes have written.
func (c *Cluster) logs() string {
	var b strings.Builder
	for _, n := range c.nodes {
		text, err := os.ReadFile(c.file(n.name + ".log"))
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- %s\n%s\n", n.name, text[max(0, len(text)-2000):])
	}
	return b.String()
}
