package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The superuser of every server, and a password that no error may show.
const (
	User     = "postgres"
	Password = "s3cret-pa55"
)

const patience = 60 * time.Second // for a server to be ready, on a busy machine

// A Server is a PostgreSQL server, which runs until the end of its test.
type Server struct {
	t    testing.TB
	bin  string // folder of PostgreSQL's programs
	dir  string // of the server, with its data in dir/data
	port int

	settings []string
	mu       sync.Mutex
	cmd      *exec.Cmd     // nil if it does not run
	done     chan struct{} // closed when cmd has ended
}

// Start makes a server and starts it, with settings such as "max_connections=5".
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := prepare(t)
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(Password), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run("initdb", "--no-sync", "--auth=scram-sha-256", "--username="+User, "--pwfile="+password, "--encoding=UTF8", "--locale=C", "-D", s.data())
	s.Restart(settings...)
	return s
}

// StartPair starts a server that acknowledges a commit once its standby has it too,
// and the standby.
func StartPair(t testing.TB, settings ...string) (primary, standby *Server) {
	t.Helper()
	primary = Start(t, settings...)
	standby = primary.Follow("standby", settings...)
	primary.Set("synchronous_standby_names", "standby")
	primary.Wait("SELECT count(*)=1 FROM pg_stat_replication WHERE sync_state='sync'")
	return primary, standby
}

// Follow starts a standby of s, which is asynchronous until its name is among the
// synchronous_standby_names of s.
func (s *Server) Follow(name string, settings ...string) *Server {
	s.t.Helper()
	standby := prepare(s.t)
	standby.follow(s, name)
	standby.Restart(settings...)
	return standby
}

// Rejoin makes a stopped server a standby of primary, with a copy of primary's data, at
// the address that it had.
func (s *Server) Rejoin(primary *Server, name string) {
	s.t.Helper()
	if err := os.RemoveAll(s.data()); err != nil {
		s.t.Fatal(err)
	}
	s.follow(primary, name)
	s.Restart()
}

// follow copies the data of a primary, with settings to follow it.
func (s *Server) follow(primary *Server, name string) {
	s.t.Helper()
	s.run("pg_basebackup", "--no-sync", "--write-recovery-conf", "--checkpoint=fast", "-D", s.data(),
		"-d", primary.url("postgres")+"?application_name="+name)
}

// prepare returns a server without data.
func prepare(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short starts no PostgreSQL")
	}
	bin := programs()
	if bin == "" {
		t.Skip("SKIPPED: PostgreSQL is not installed (Debian: postgresql)")
	}
	owner, err := serverAccount()
	if err != nil {
		t.Skip("SKIPPED: PostgreSQL refuses to run as root: ", err)
	}
	dir, err := os.MkdirTemp("", "pgtest-") // the folders of a test are closed to other accounts
	if err == nil && owner != nil {
		err = os.Chown(dir, owner.uid, owner.gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, bin: bin, dir: dir}
	t.Cleanup(func() {
		s.end(syscall.SIGQUIT)
		_ = os.RemoveAll(dir)
	})
	s.port = freePort(t)
	return s
}

// An account is the user and group that a program runs as.
type account struct{ uid, gid int }

// freePort returns a port below those that the system gives to clients. Until the test
// ends a UDP socket with the same number reserves it, so that a restarted server gets its
// own back: other tests that look for a port do the same.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 11000 + rand.IntN(20000)
		address := "127.0.0.1:" + strconv.Itoa(port)
		reserved, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			t.Cleanup(func() { _ = reserved.Close() })
			return port
		}
		_ = reserved.Close()
	}
	t.Fatal("no free port")
	return 0
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command returns one of PostgreSQL's programs, to be run as the server's account.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	owner, _ := serverAccount()
	cmd.SysProcAttr = attributes(owner)
	return cmd
}

func (s *Server) run(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Restart stops the server, if it runs, and starts it with more settings.
func (s *Server) Restart(settings ...string) {
	s.t.Helper()
	s.Stop()
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}
	s.settings = append(s.settings, settings...) // the last of each counts
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := s.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // an error if it was killed
		close(done)
	}()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	s.ready()
}

// ready waits until the server answers.
func (s *Server) ready() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := s.query("SELECT true")
		if err == nil {
			return
		}
		select {
		case <-s.done:
			err = errors.New("it has ended")
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		s.t.Fatalf("PostgreSQL does not start: %v\n%s", err, s.Log())
	}
}

// Stop stops the server cleanly, even while clients are connected.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server as a crash would: it has to recover when it is started again.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

func (s *Server) end(how syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(how)
	select {
	case <-s.done:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// Promote makes a standby the primary, and returns once it takes writes.
func (s *Server) Promote() {
	s.t.Helper()
	s.Wait("SELECT pg_promote()")
}

// Address is HOST:PORT of the server.
func (s *Server) Address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

func (s *Server) url(database string) string {
	return "postgres://" + User + ":" + Password + "@" + s.Address() + "/" + database
}

// URL returns how the superuser connects to the server, or to others if it takes no
// writes.
func (s *Server) URL(others ...*Server) string {
	hosts := s.Address()
	for _, o := range others {
		hosts += "," + o.Address()
	}
	return "postgres://" + User + ":" + Password + "@" + hosts + "/postgres?sslmode=disable"
}

// Exec runs SQL as the superuser.
func (s *Server) Exec(sql string) {
	s.t.Helper()
	c, err := s.connect("&default_transaction_read_only=off")
	if err == nil {
		defer func() { _ = c.Close(context.Background()) }()
		err = c.PgConn().Exec(context.Background(), sql).Close()
	}
	if err != nil {
		s.t.Fatalf("%.100s: %v", sql, err)
	}
}

func (s *Server) connect(parameters string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, s.url("postgres")+"?sslmode=disable"+parameters)
}

// query is Query without a test to fail.
func (s *Server) query(sql string) (text string, err error) {
	c, err := s.connect("")
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close(context.Background()) }()
	var value any
	err = c.QueryRow(context.Background(), sql).Scan(&value)
	return fmt.Sprint(value), err
}

// Query returns the one value that the SQL selects, as text.
func (s *Server) Query(sql string) string {
	s.t.Helper()
	text, err := s.query(sql)
	if err != nil {
		s.t.Fatalf("%.100s: %v", sql, err)
	}
	return text
}

// Wait waits until SQL returns true.
func (s *Server) Wait(sql string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); s.Query(sql) != "true"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s\n%s", patience, sql, s.Log())
		}
	}
}

// Set changes a setting of the running server.
func (s *Server) Set(name, value string) {
	s.t.Helper()
	s.Exec("ALTER SYSTEM SET " + pgx.Identifier{name}.Sanitize() + " = '" + value + "'")
	s.Exec("SELECT pg_reload_conf()")
	s.Wait("SELECT current_setting('" + name + "') = '" + value + "'")
}

// Hold runs SQL in a transaction that lasts until release is called.
func (s *Server) Hold(sql string) (release func()) {
	s.t.Helper()
	c, err := s.connect("")
	if err == nil {
		err = c.PgConn().Exec(context.Background(), "BEGIN; "+sql).Close()
	}
	if err != nil {
		s.t.Fatalf("%.100s: %v", sql, err)
	}
	return sync.OnceFunc(func() { _ = c.Close(context.Background()) })
}

// Snapshot stops the server and returns a copy of its files, for Restore.
func (s *Server) Snapshot() (path string) {
	s.t.Helper()
	s.Stop()
	path = filepath.Join(s.dir, "snapshot")
	s.copy(s.data(), path)
	return path
}

// Restore stops the server and puts a copy of its files in their place.
func (s *Server) Restore(path string) {
	s.t.Helper()
	s.Stop()
	if err := os.RemoveAll(s.data()); err != nil {
		s.t.Fatal(err)
	}
	s.copy(path, s.data())
}

func (s *Server) copy(from, to string) {
	s.t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		s.t.Fatalf("cp: %v\n%s", err, out)
	}
}

// Log returns the end of the server's log.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(bytes.ToValidUTF8(text[max(0, len(text)-4000):], nil))
}
