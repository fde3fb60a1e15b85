package etcdtest

import (
	"io"
	"os"
	"os/exec"
)

// Snapshot writes a snapshot of the cluster to a file and returns its path.
func (c *Cluster) Snapshot() (path string) {
	c.t.Helper()
	from, err := c.Client().Snapshot(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.CreateTemp(c.dir, "snapshot-*")
	if err == nil {
		_, err = io.Copy(to, from)
	}
	if err == nil {
		err = to.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return to.Name()
}

// Restore ends all nodes and makes the cluster anew from a snapshot, as an
// administrator would in haste: with the same names, addresses and token.
func (c *Cluster) Restore(snapshot string) {
	c.t.Helper()
	tool := restoreTool()
	if tool == "" {
		c.t.Skip("SKIPPED: neither etcdutl nor etcdctl is installed (Debian: etcd-client)")
	}
	c.killAll()
	for i, n := range c.nodes {
		if err := os.RemoveAll(c.file(n.name)); err != nil {
			c.t.Fatal(err)
		}
		cmd := exec.Command(tool, append([]string{"snapshot", "restore", snapshot}, c.member(n)...)...)
		cmd.Env = append(withoutETCD(os.Environ()), "ETCDCTL_API=3")
		out, err := cmd.CombinedOutput()
		if err == nil {
			err = c.run(i)
		}
		if err != nil {
			c.t.Fatalf("restore %s: %v\n%s", n.name, err, out)
		}
	}
	if err := c.wait(patience); err != nil {
		c.t.Fatalf("etcd does not start from a snapshot: %v\n%s", err, c.logs())
	}
}

// restoreTool is what restores snapshots; etcdctl does not any more from etcd 3.6
// on.
func restoreTool() string {
	for _, tool := range []string{"etcdutl", "etcdctl"} {
		if _, err := exec.LookPath(tool); err == nil {
			return tool
		}
	}
	return ""
}
