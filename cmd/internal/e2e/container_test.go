package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// withPodman prepares namespaces for containers: the single control group hierarchy
// that crun wants, a /dev/null that crun may give to the container's user, and a
// podman that has its own store and sets only limits that it is allowed to set.
// Debian 12's podman-compose names a second network, which podman refuses beside the
// host's.
const withPodman = `set -e
dir=$1
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mkdir "$dir/dev" && mount -t tmpfs tmpfs "$dir/dev"
mknod -m 666 "$dir/dev/null" c 1 3 && mount --bind "$dir/dev/null" /dev/null
mkdir "$dir/bin"
{
	printf '#!/bin/sh\ndir=%s\n' "$dir"
	cat <<'END'
command=$1
shift
case $command in
network) exit ;;
run)
	for arg; do
		shift
		case $skip$arg in
		--net | --network-alias) skip=yes- ;;
		yes-*) skip= ;;
		*) set -- "$@" "$arg" ;;
		esac
	done
	set -- --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 "$@"
	;;
esac
exec /usr/bin/podman --root "$dir/root" --runroot "$dir/run" --storage-driver vfs --cgroup-manager cgroupfs "$command" "$@" 2>>"$dir/podman.log"
END
} >"$dir/bin/podman"
chmod +x "$dir/bin/podman"
PATH="$dir/bin:$PATH"
cd "$dir"
echo mounted
`

// inContainer runs the relay in a container, and prints what the test looks for.
const inContainer = `echo built
podman run -d --name relay --network host --read-only -v "$dir/etc:/etc/qkdmail:ro" qkdmail >/dev/null
echo running
for _ in $(seq 100); do ! podman healthcheck run relay || break; sleep 0.1; done
podman healthcheck run relay && echo healthy
podman inspect -f 'user={{.Config.User}} readonly={{.HostConfig.ReadonlyRootfs}}' relay
awk '/^Uid:/ {print "uid=" $2} /^CapEff:/ {print "capabilities=" $2}' "/proc/$(podman inspect -f '{{.State.Pid}}' relay)/status"
echo ready; read -r _ || true # until the test has sent mail
podman stop -t 10 relay >/dev/null
podman inspect -f 'exit={{.State.ExitCode}}' relay`

// distribution returns a folder with the files that scripts/package puts into an
// image.
func distribution(t *testing.T) string {
	t.Helper()
	relaytest.Needs(t, "podman", "crun", "unshare")
	dir := folder(t)
	arch := filepath.Join(dir, "dist", runtime.GOARCH)
	for _, d := range []string{filepath.Join(arch, "bin"), filepath.Join(arch, "state")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(arch, "bin"), "github.com/qkdmail/qkdmail/cmd/qkdmail")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	scripts, err := filepath.Abs(filepath.Join("..", "..", "..", "scripts"))
	if err == nil {
		err = os.Symlink(scripts, filepath.Join(dir, "scripts"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(arch, "ca-certificates.crt"), nil, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// inNamespaces returns a command that runs a script after withPodman.
func inNamespaces(t *testing.T, dir, shell, script string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--kill-child", shell, "-c", withPodman+script, shell, dir)
	relaytest.EndWithTest(c)
	return c
}

// noContainers skips the test if a command's output shows that this kernel can't run
// containers, and fails it otherwise.
func noContainers(t *testing.T, dir, text string, err error) {
	t.Helper()
	log, _ := os.ReadFile(filepath.Join(dir, "podman.log"))
	if !strings.Contains(text, "mounted\n") || strings.HasSuffix(text, "built\n") {
		t.Skipf("SKIPPED: this kernel can't run a container: %v: %s%s", err, text, log)
	}
	t.Fatalf("%v: %s%s", err, text, log)
}

// TestContainer builds scripts/packaging/Containerfile with podman and runs a relay
// in it: from scratch, without root, with a read-only root folder.
func TestContainer(t *testing.T) {
	t.Parallel()
	dir := distribution(t)
	arrived := newSink(t)
	listen := relaytest.FreePort(t)
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "relay.toml"), fmt.Appendf(nil, `
listener = [{name = "outgoing", direction = "encrypt", address = "127.0.0.1:%d", next_hop = "sink"}]
next_hop = [{name = "sink", address = %q}]
km = {url = "mock:/var/lib/qkdmail/keys.json"}
peer = [{name = "site-b", domains = ["b.example"]}]
rule = [{domain = "default", peer = "site-b"}]
admin = {address = "127.0.0.1:%d"}
`, listen, arrived.addr, relaytest.FreePort(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	c := inNamespaces(t, dir, "sh", commands(t, "containers.md", 4)[0]+inContainer)
	said := &said{ready: make(chan bool)}
	c.Stdout, c.Stderr = said, said
	stdin, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		noContainers(t, dir, said.text.String(), err)
	case <-said.ready:
	}
	send(t, listen, "alice@a.example", []string{"bob@b.example"}, []byte("From: alice@a.example\r\n\r\nx\r\n"))
	if m := arrived.one(t, "bob@b.example"); !bytes.Contains(m.data, []byte("\nQkdmail-Key-ID: ")) {
		t.Errorf("not encrypted:\n%s", m.data)
	}
	_ = stdin.Close()
	err = <-ended
	for _, part := range []string{"healthy\n", "user=65532:65532 readonly=true\n", "uid=65532\n", "capabilities=0000000000000000\n", "exit=0\n"} {
		if !strings.Contains(said.text.String(), part) {
			t.Errorf("the container, which ended with %v, did not show %q:\n%s", err, part, said.text.Bytes())
		}
	}
}

// said keeps a program's output, and closes ready when the program says that it is
// ready.
type said struct {
	text  bytes.Buffer
	ready chan bool
}

func (s *said) Write(p []byte) (int, error) {
	was := bytes.Contains(s.text.Bytes(), []byte("\nready\n"))
	s.text.Write(p)
	if !was && bytes.Contains(s.text.Bytes(), []byte("\nready\n")) {
		close(s.ready)
	}
	return len(p), nil
}

// TestQuickstartInContainers runs the quick start with the commands of
// docs/containers.md and with docs/compose.yml.
func TestQuickstartInContainers(t *testing.T) {
	t.Parallel()
	needsPostfix(t)
	relaytest.Needs(t, "podman-compose", "bash", "awk")
	dir := distribution(t)
	blocks, own := commands(t, "quickstart.md", 10), commands(t, "containers.md", 4)
	blocks[0], blocks[2], blocks[6], blocks[9] = own[0]+"echo built\n", own[1], own[2], own[3]
	a := relaytest.FreePorts(t, 14)
	ports := strings.NewReplacer("20024", fmt.Sprint(a), "21024", fmt.Sprint(a+7), "20030", fmt.Sprint(a+6), "21030", fmt.Sprint(a+13))
	if err := os.Mkdir(filepath.Join(dir, "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "docs", "compose.yml"), []byte(ports.Replace(document(t, "compose.yml"))), 0o644); err != nil {
		t.Fatal(err)
	}
	c := inNamespaces(t, dir, "bash", ports.Replace(strings.Join(blocks, "")))
	c.Env = append(os.Environ(), "PATH="+filepath.Dir(qkdmail(t))+":"+os.Getenv("PATH"), "TMPDIR="+dir)
	out, err := c.CombinedOutput()
	said := string(out)
	if err != nil {
		noContainers(t, dir, said, err)
	}
	if strings.Count(said, "suite=OTP+X-WING;") != 2 || strings.Contains(said, "FAILED") {
		t.Errorf("mail did not arrive encrypted both ways:\n%s", said)
	}
}
