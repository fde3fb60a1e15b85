//go:build unix

package etcdtest

import "syscall"

// Pause makes a node hang, as an overloaded machine does, until Resume.
func (c *Cluster) Pause(i int) { _ = c.nodes[i].cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (c *Cluster) Resume(i int) { _ = c.nodes[i].cmd.Process.Signal(syscall.SIGCONT) }
