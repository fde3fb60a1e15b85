package mailer_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

// Someone may send copies of a message at the same moment, when none has been delivered
// yet: one is, and the others have to wait.
func TestCopiesAtTheSameMoment(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	sealed := mailtest.Seal(t, r.KM, mailtest.Text, func(o *cipher.EncryptOptions) {
		o.Recipients = []string{"bob@b.example", "carol@b.example"}
	})
	there, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	var held atomic.Bool
	hop.Follow(func(line string) string {
		if line == "DOT" && held.CompareAndSwap(false, true) {
			close(there)
			<-goOn
		}
		return ""
	})
	answer := make(chan string, 1)
	begin := mailtest.Connect(t, r)
	go func() { answer <- begin.Mail(sealed, "alice@a.example", "bob@b.example") }()
	<-there

	c := mailtest.Connect(t, r)
	for _, rcpt := range []string{"bob@b.example", "Bob@b.example", "bob@B.example"} {
		c.Want("451 4.5.0", c.Mail(sealed, "alice@a.example", rcpt))
	}
	c.Want("250", c.Mail(sealed, "alice@a.example", "carol@b.example"))
	release()
	begin.Want("250", <-answer)
	c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	if got := recipientsOf(hop); strings.Count(got, "bob") != 1 || strings.Count(got, "carol") != 1 {
		t.Errorf("delivered to %s, want bob and carol once each", got)
	}
}

// A client that sends a copy slowly keeps nobody waiting: the copy counts once all of it
// is there.
func TestSlowCopy(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	sealed := mailtest.Seal(t, r.KM, mailtest.Text)
	slow, c := mailtest.Connect(t, r), mailtest.Connect(t, r)
	slow.Begin("alice@a.example", "bob@b.example")
	slow.Send(sealed)
	c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	slow.Send(".\r\n")
	if reply := slow.Reply(); !strings.HasPrefix(reply, "451 4.5.0") && !strings.HasPrefix(reply, "250") {
		t.Errorf("the slow copy is answered %q", reply)
	}
	if got := hop.Got(); len(got) != 1 {
		t.Errorf("%d copies are delivered", len(got))
	}
}

// A message that was refused by the next hop is no longer under way.
func TestRefusedIsNotUnderWay(t *testing.T) {
	hop := mailtest.StartHop(t)
	r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	sealed := mailtest.Seal(t, r.KM, mailtest.Text)
	c := mailtest.Connect(t, r)
	mailtest.Answering("DOT", "451 4.2.0 mailbox busy")(hop)
	c.Want("451 4.2.0", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	hop.Follow(nil)
	c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
}

// recipientsOf returns all recipients of what a next hop has received.
func recipientsOf(hop *mailtest.Hop) string {
	var all []string
	for _, m := range hop.Got() {
		all = append(all, m.Rcpts...)
	}
	return strings.Join(all, " ")
}
