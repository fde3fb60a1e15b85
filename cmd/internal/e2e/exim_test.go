package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// exim is the Exim of a site, on its own machine.
type exim struct {
	*site
	machine *machine
}

// withExim returns the options for sites with Exim, set up as in docs/exim.md.
func withExim(t *testing.T) options {
	t.Helper()
	needsPackage(t, "exim4-daemon-light")
	return options{system: func(s *site) mailSystem { return &exim{site: s} }}
}

func (e *exim) start(t *testing.T, o options, wire string) (wait func()) {
	t.Helper()
	parts := []string{"@DIR@", e.dir, "@DOMAIN@", e.domain(), "@SINK@", port(e.sink.addr), "@WIRE@", port(wire)}
	for _, part := range []string{"main", "acl", "routers", "transports"} {
		parts = append(parts, "@"+strings.ToUpper(part)+"@", e.lines(t, "exim/"+part))
	}
	e.write(t, o, "exim4.conf", strings.NewReplacer(parts...).Replace(testdata(t, "exim/base.conf")))
	e.machine = newMachine(t, "exim4-daemon-light", e.dir, `
useradd -r -M -d /var/spool/exim4 -s /usr/sbin/nologin Debian-exim
install -d -o Debian-exim -g Debian-exim /var/spool/exim4
for log in main reject panic; do install -o Debian-exim /dev/null `+e.path("exim-$log.log")+`; done
ln -s exim-main.log `+e.path("mail.log")+`
install -m 0644 `+e.path("exim4.conf")+` /etc/exim4/exim4.conf
exim4 -bdf -q1s`)
	return func() { e.awaitPorts(t, portInternet, portOwn, portOut, portIn) }
}

func (e *exim) flush() error {
	_, err := e.machine.run("exim4", "-qff")
	return err
}

func (e *exim) queue(t *testing.T) string {
	t.Helper()
	out, err := e.machine.run("exim4", "-bpu")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lines returns a file from a document about a mail system other than Postfix,
// with the document's domain and ports replaced by the site's.
func (s *site) lines(t *testing.T, file string) string {
	t.Helper()
	text := strings.NewReplacer("0.0.0.0", "127.0.0.1", "a.example", s.domain()).Replace(testdata(t, file))
	for doc, port := range s.ports {
		text = regexp.MustCompile(`\b`+doc+`\b`).ReplaceAllString(text, strconv.Itoa(port))
	}
	return text
}
