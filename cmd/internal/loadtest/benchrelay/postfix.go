package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
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

const masterCF = `127.0.0.1:@PORT@ inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix starts a private Postfix that passes all mail on to the sink. It
// has a queue: it answers when a message is on disk, and its result counts when
// the queue is empty again.
func startPostfix(ctx context.Context, bg *processes, dir, sink string) (*target, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("only root can start it")
	}
	if _, err := exec.LookPath("postfix"); err != nil {
		return nil, errors.New("it is not installed")
	}
	for _, d := range []string{"", "queue", "data", "conf"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.CommandContext(ctx, "chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s", out)
	}
	port := freePort()
	_, sinkPort, _ := strings.Cut(sink, ":")
	fill := strings.NewReplacer("@DIR@", dir, "@SINK@", sinkPort, "@PORT@", fmt.Sprint(port))
	conf := filepath.Join(dir, "conf")
	for name, text := range map[string]string{"main.cf": mainCF, "master.cf": masterCF} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(fill.Replace(text)), 0o644); err != nil {
			return nil, err
		}
	}
	if out, err := exec.CommandContext(ctx, "postfix", "-c", conf, "start").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it does not start: %s", out)
	}
	bg.ends = append(bg.ends, func() { _ = exec.Command("postfix", "-c", conf, "stop").Run() })
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if err := reachable(address); err != nil {
		return nil, err
	}
	queue := filepath.Join(dir, "queue")
	return &target{
		name: "Postfix, with its queue", address: address, part: 0.1,
		settle: func() error { return emptied(queue) },
	}, nil
}

// emptied waits until a queue is empty.
func emptied(queue string) error {
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(2 * time.Millisecond) {
		waiting := 0
		for _, d := range []string{"maildrop", "incoming", "active", "deferred"} {
			_ = filepath.WalkDir(filepath.Join(queue, d), func(_ string, e os.DirEntry, err error) error {
				if err == nil && e.Type().IsRegular() {
					waiting++
				}
				return nil
			})
		}
		if waiting == 0 {
			return nil
		}
	}
	return errors.New("mail stays in the queue")
}
