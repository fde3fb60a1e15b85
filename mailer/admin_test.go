package mailer_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

func TestCheckNextHops(t *testing.T) {
	mailtest.NoLeaks(t)
	// One that accepts connections and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, good.Addr(), func(c *config.Config) {
		more := c.NextHops[0]
		more.Name, more.Address = "silent", silent.Addr().String()
		c.NextHops = append(c.NextHops, more)
		more.Name, more.Address = "down", "127.0.0.1:1"
		c.NextHops = append(c.NextHops, more)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	found := r.CheckNextHops(ctx)
	if len(found) != 3 || found["next"] != nil || found["silent"] == nil || found["down"] == nil {
		t.Errorf("found %v, want next to be fine", found)
	}
	good.None()
}
