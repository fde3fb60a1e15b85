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

// inContainer builds the image, runs the relay in it, and prints what the test looks
// for. It runs in namespaces of its own, with the one hierarchy of control groups
// that crun wants, and without limits that it may not set.
const inContainer = `set -e
dir=$1 file=$2 arch=$3
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
# crun gives /dev/null to the user in the container: not this machine's.
mkdir "$dir/dev" && mount -t tmpfs tmpfs "$dir/dev"
mknod -m 666 "$dir/dev/null" c 1 3 && mount --bind "$dir/dev/null" /dev/null
echo mounted
podman() { command podman --root "$dir/root" --runroot "$dir/run" --storage-driver vfs --cgroup-manager cgroupfs "$@" 2>>"$dir/podman.log"; }
podman build -q --format docker --build-arg TARGETARCH="$arch" -f "$file" -t qkdmail "$dir/dist" >/dev/null
echo built
podman run -d --name relay --network host --read-only -v "$dir/etc:/etc/qkdmail:ro" \
	--cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 qkdmail >/dev/null
echo running
for _ in $(seq 100); do ! podman healthcheck run relay || break; sleep 0.1; done
podman healthcheck run relay && echo healthy
podman inspect -f 'user={{.Config.User}} readonly={{.HostConfig.ReadonlyRootfs}}' relay
awk '/^Uid:/ {print "uid=" $2} /^CapEff:/ {print "capabilities=" $2}' "/proc/$(podman inspect -f '{{.State.Pid}}' relay)/status"
echo ready; read -r _ || true # until the test has sent mail
podman stop -t 10 relay >/dev/null
podman inspect -f 'exit={{.State.ExitCode}}' relay`

// TestContainer builds scripts/packaging/Containerfile with podman, as
// scripts/package prepares it, and runs a relay in it: from scratch, without root,
// with a root folder that is read-only.
func TestContainer(t *testing.T) {
	relaytest.Needs(t, "podman", "crun", "unshare")
	dir := folder(t)
	arch := filepath.Join(dir, "dist", runtime.GOARCH)
	for _, d := range []string{filepath.Join(arch, "bin"), filepath.Join(arch, "state"), filepath.Join(dir, "etc")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(arch, "bin"), "github.com/qkdmail/qkdmail/cmd/qkdmail")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	arrived := newSink(t)
	listen, admin := relaytest.FreePort(t), relaytest.FreePort(t)
	for file, text := range map[string]string{
		filepath.Join(arch, "ca-certificates.crt"): "",
		filepath.Join(dir, "etc", "relay.toml"): fmt.Sprintf(`
listener = [{name = "outgoing", direction = "encrypt", address = "127.0.0.1:%d", next_hop = "sink"}]
next_hop = [{name = "sink", address = %q}]
km = {url = "mock:/var/lib/qkdmail/keys.json"}
peer = [{name = "site-b", domains = ["b.example"]}]
rule = [{domain = "default", peer = "site-b"}]
admin = {address = "127.0.0.1:%d"}
`, listen, arrived.addr, admin),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	containerfile, err := filepath.Abs(filepath.Join("..", "..", "..", "scripts", "packaging", "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inContainer, "sh", dir, containerfile, runtime.GOARCH)
	relaytest.EndWithTest(c)
	said := &said{ready: make(chan bool)}
	c.Stdout, c.Stderr = said, said
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		log, _ := os.ReadFile(filepath.Join(dir, "podman.log"))
		if text := said.text.String(); !strings.Contains(text, "mounted\n") || strings.HasSuffix(text, "built\n") {
			t.Skipf("SKIPPED: this kernel can't run a container: %v: %s%s", err, text, log)
		}
		t.Fatalf("%v: %s%s", err, said.text.Bytes(), log)
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

// said keeps what a program prints, and closes ready when it says that it is.
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
