package mailer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// netError returns the error of a key manager that can't be reached.
func netError() error {
	return fmt.Errorf("%w: %w", kmclient.ErrUnavailable, &net.OpError{Op: "dial", Err: errors.New("refused")})
}

func TestKeyManagerFails(t *testing.T) {
	for name, err := range map[string]error{
		"down":      netError(),
		"timeout":   fmt.Errorf("%w: %w", kmclient.ErrUnavailable, context.DeadlineExceeded),
		"refuses":   kmclient.ErrRefused,
		"exhausted": kmclient.ErrKeyExhausted,
		"nonsense":  kmclient.ErrBadAnswer,
		"bad key":   kmclient.ErrBadKey,
		"store":     kmclient.ErrStore,
		"unknown":   errors.New("something else"),
	} {
		t.Run(name, func(t *testing.T) {
			mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t)
				km := mailtest.NewKM()
				message := mailtest.MessageFor(t, d, km)
				km.OnGet = func(context.Context) error { return err }
				km.OnFind = func(context.Context, []string) error { return err }
				r := mailtest.StartRelayWith(t, km, d, hop.Addr())
				c := mailtest.Connect(t, r)
				c.Want("451 4.", c.Attempt(message))
				hop.None()
				c.Want("250", c.Cmd("NOOP"))
			})
		})
	}
}

func TestKeyManagerSlow(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		km := mailtest.NewKM()
		message := mailtest.MessageFor(t, d, km)
		wait := func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", kmclient.ErrUnavailable, ctx.Err())
		}
		km.OnGet = wait
		km.OnFind = func(ctx context.Context, _ []string) error { return wait(ctx) }
		r := mailtest.StartRelayWith(t, km, d, hop.Addr(), func(c *config.Config) { c.KM.Timeout = 100 * time.Millisecond })
		c := mailtest.Connect(t, r)
		c.Want("451 4.7.5", c.Attempt(message))
		hop.None()
	})
}

func TestKeyManagerWrongKey(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	r.KM.Spoil = func(_ string, key []byte) []byte { key[3] ^= 1; return key }
	c := mailtest.Connect(t, r)
	c.Want("550 5.7.7", c.Attempt(mailtest.MessageFor(t, mailer.DirectionDecrypt, r.KM)))
	hop.None()
	r.KM.Spoil = func(_ string, key []byte) []byte { return key[:16] }
	c.Want("550 5.7.7", c.Attempt(mailtest.MessageFor(t, mailer.DirectionDecrypt, r.KM)))
	hop.None()
}

// A message whose pad runs out in the middle is not sent.
func TestKeysRunOutMidway(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	calls := 0
	r.KM.OnGet = func(context.Context) error {
		if calls++; calls > 2 {
			return kmclient.ErrKeyExhausted
		}
		return nil
	}
	c := mailtest.Connect(t, r)
	c.Want("451 4.7.5", c.Mail(mailtest.Text+strings.Repeat("padded\r\n", 100_000), "a@a.example", "b@pad.example"))
	hop.None()
	hop.WasCut()
}
