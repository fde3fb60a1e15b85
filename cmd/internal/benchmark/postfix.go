package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const mainCF = `compatibility_level = 3.6
queue_directory = @DIR@/queue
data_directory = @DIR@/data
maillog_file = @DIR@/mail.log
maillog_file_prefixes = @DIR@
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example
mydestination =
alias_maps =
local_recipient_maps =
relayhost = [127.0.0.1]:@SINK@
smtp_dns_support_level = disabled
smtp_tls_security_level = none
smtp_connection_cache_destinations = [127.0.0.1]:@SINK@
initial_destination_concurrency = 20
default_destination_concurrency_limit = 20
in_flow_delay = 0
notify_classes =
`

const masterCF = `@ADDRESS@ inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix starts a private Postfix that passes all mail on to the sink. It
// has a queue on disk, and answers once a message is in it.
func (h *hop) startPostfix(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp("", "qkdmail-postfix-")
	if err != nil {
		return err
	}
	b.atEnd = append(b.atEnd, func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_ = l.Close()
	h.address = l.Addr().String()
	_, sink, _ := strings.Cut(h.net.sink, ":")
	fill := strings.NewReplacer("@DIR@", dir, "@SINK@", sink, "@ADDRESS@", h.address)
	for name, text := range map[string]string{"main.cf": mainCF, "master.cf": masterCF} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	b.atEnd = append(b.atEnd, func() { _, _ = b.shell(context.Background(), "postfix -c "+dir+" stop") })
	if _, err := b.shell(ctx, fmt.Sprintf("cd %s; chmod 755 .; mkdir queue data; chown postfix data; postfix -c %[1]s start 2>&1", dir)); err != nil {
		return err // it needs root
	}
	for range 500 {
		var conn net.Conn
		if conn, err = net.Dial("tcp", h.address); err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
