package pgtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Patroni is a cluster of servers. Patroni makes one of them the primary, and another
// one when the first is gone. It needs Debian's patroni and python3-pysyncobj.
type Patroni struct {
	t     testing.TB
	nodes []*node
}

// A node is a server with the Patroni that runs it.
type node struct {
	*Server
	rest, raft int // ports
	patroni    *exec.Cmd
	ended      chan struct{}
}

// StartPatroni starts three nodes with synchronous replication, and returns when one is
// the primary and another its synchronous standby.
func StartPatroni(t testing.TB) *Patroni {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short starts no Patroni")
	}
	if _, err := exec.LookPath("patroni"); err != nil {
		t.Skip("SKIPPED: Patroni is not installed (Debian: patroni and python3-pysyncobj)")
	}
	p := &Patroni{t: t}
	for range 3 {
		p.nodes = append(p.nodes, &node{Server: prepare(t), rest: freePort(t), raft: freePort(t)})
	}
	for i, n := range p.nodes {
		p.configure(i)
		n.start()
		t.Cleanup(n.kill)
	}
	p.settle()
	return p
}

const patroniConfig = `
scope: qkdmail
name: node%[1]d
restapi: {listen: "127.0.0.1:%[2]d", connect_address: "127.0.0.1:%[2]d"}
raft: {data_dir: %[3]s/raft, self_addr: "127.0.0.1:%[4]d", partner_addrs: [%[5]s]}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    maximum_lag_on_failover: 0
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql: {use_pg_rewind: true, parameters: {max_connections: 200, wal_log_hints: "on"}}
  initdb: [{encoding: UTF8}, {locale: C}]
postgresql:
  listen: 127.0.0.1:%[6]d
  connect_address: 127.0.0.1:%[6]d
  data_dir: %[3]s/data
  bin_dir: %[7]s
  pgpass: %[3]s/pgpass
  authentication:
    superuser: {username: %[8]s, password: %[9]s}
    replication: {username: replicator, password: %[9]s}
  parameters: {unix_socket_directories: %[3]s}
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 md5", "host replication all 127.0.0.1/32 md5"]
`

// configure writes the file of a node.
func (p *Patroni) configure(i int) {
	p.t.Helper()
	n := p.nodes[i]
	var partners []string
	for _, other := range p.nodes {
		if other != n {
			partners = append(partners, fmt.Sprintf("%q", "127.0.0.1:"+strconv.Itoa(other.raft)))
		}
	}
	text := fmt.Sprintf(patroniConfig, i, n.rest, n.dir, n.raft, strings.Join(partners, ", "), n.port, n.bin, User, Password)
	if err := os.WriteFile(filepath.Join(n.dir, "patroni.yml"), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// start starts the Patroni of a node.
func (n *node) start() {
	n.t.Helper()
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	owner, _ := serverAccount()
	cmd := exec.Command("patroni", filepath.Join(n.dir, "patroni.yml"))
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = n.dir, log, log, attributes(owner)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + n.dir}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.patroni, n.ended = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(n.ended)
	}()
}

// kill ends Patroni and the server of a node as a crash of the machine would.
func (n *node) kill() {
	_ = n.patroni.Process.Kill()
	<-n.ended
	text, err := os.ReadFile(filepath.Join(n.data(), "postmaster.pid"))
	if err != nil {
		return
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if pid, err := strconv.Atoi(first); err == nil {
		if server, err := os.FindProcess(pid); err == nil {
			_ = server.Signal(syscall.SIGQUIT)
		}
	}
}

// is reports whether a node has a role (primary or sync), or is healthy.
func (n *node) is(role string) bool {
	client := &http.Client{Timeout: time.Second}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", n.rest, role))
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// settle waits until there is a primary and a synchronous standby, and all nodes run.
func (p *Patroni) settle() {
	p.t.Helper()
	for deadline := time.Now().Add(3 * patience); ; time.Sleep(200 * time.Millisecond) {
		primary, sync, running := false, false, 0
		for _, n := range p.nodes {
			primary, sync = primary || n.is("primary"), sync || n.is("sync")
			if n.is("health") {
				running++
			}
		}
		if primary && sync && running == len(p.nodes) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("Patroni makes no primary with a synchronous standby:\n%s", p.nodes[0].Log())
		}
	}
}

// KillPrimary kills the primary, and starts it again once another server has taken over.
func (p *Patroni) KillPrimary() {
	p.t.Helper()
	for _, n := range p.nodes {
		if !n.is("primary") {
			continue
		}
		n.kill()
		for deadline := time.Now().Add(2 * patience); !p.hasOther(n); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				for _, other := range p.nodes {
					p.t.Log(other.Log())
				}
				p.t.Fatal("no server takes over")
			}
		}
		n.start()
		break
	}
	p.settle()
}

func (p *Patroni) hasOther(than *node) bool {
	for _, n := range p.nodes {
		if n != than && n.is("primary") {
			return true
		}
	}
	return false
}

// Addresses returns HOST:PORT of the servers.
func (p *Patroni) Addresses() (all []string) {
	for _, n := range p.nodes {
		all = append(all, n.Address())
	}
	return all
}

// URL returns how the superuser connects to the server that takes writes.
func (p *Patroni) URL() string {
	return "postgres://" + User + ":" + Password + "@" + strings.Join(p.Addresses(), ",") + "/postgres?sslmode=disable&target_session_attrs=read-write"
}
