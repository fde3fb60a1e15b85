package admin

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestCount counts one message of each kind and checks the metrics.
func TestCount(t *testing.T) {
	r := newRig(t)
	r.Message(mailer.Report{
		Direction: mailer.DirectionEncrypt, Peer: "site-b", Suite: cipher.SuiteOTP, Outcome: mailer.OutcomeEncrypted,
		Size: 5000, Keys: 3, Total: 2 * time.Second, KeyWait: 20 * time.Millisecond, HopWait: time.Second,
	})
	r.Message(mailer.Report{Direction: mailer.DirectionDecrypt, Outcome: mailer.OutcomePlain, Size: 10})
	r.Message(mailer.Report{Direction: mailer.DirectionEncrypt, Peer: "site-c", Suite: cipher.SuiteOTP, Outcome: mailer.OutcomeDeferred, Reason: "next hop", Keys: 2})
	r.Message(mailer.Report{Direction: mailer.DirectionDecrypt, Peer: "site-b", Suite: cipher.SuiteAES256GCMXWing, Outcome: mailer.OutcomeDecrypted})
	r.Message(mailer.Report{Direction: mailer.DirectionDecrypt, Peer: "site-b", Suite: "x", Outcome: mailer.OutcomeRefused, Reason: "damaged", Keys: 7})
	r.Message(mailer.Report{Direction: mailer.DirectionEncrypt, Outcome: mailer.OutcomeRefused, Reason: "address", Command: "RCPT"})
	_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/metrics")
	for _, want := range []string{
		`qkdmail_messages_total{direction="encrypt",outcome="encrypted",peer="site-b",suite="OTP"} 1`,
		`qkdmail_messages_total{direction="decrypt",outcome="plain",peer="(none)",suite="(none)"} 1`,
		`qkdmail_messages_total{direction="encrypt",outcome="deferred",peer="site-c",suite="OTP"} 1`,
		`qkdmail_messages_total{direction="decrypt",outcome="refused",peer="site-b",suite="(none)"} 1`,
		`qkdmail_messages_total{direction="decrypt",outcome="decrypted",peer="site-c",suite="AES-256-GCM"} 0`, // a rate begins at zero
		`qkdmail_messages_total{direction="decrypt",outcome="decrypted",peer="site-b",suite="AES-256-GCM+X-WING"} 1`,
		`qkdmail_messages_total{direction="encrypt",outcome="encrypted",peer="site-b",suite="OTP+X-WING"} 0`,
		`qkdmail_refusals_total{direction="encrypt",peer="site-c",reason="next hop"} 1`,
		`qkdmail_refusals_total{direction="decrypt",peer="site-b",reason="damaged"} 1`,
		`qkdmail_refusals_total{direction="encrypt",peer="(none)",reason="address"} 1`,
		`qkdmail_refusals_total{direction="decrypt",peer="(none)",reason="key bound"} 0`,
		`qkdmail_refusals_total{direction="encrypt",peer="site-b",reason="no key left"} 0`, // the first one counts
		`qkdmail_keys_used_total{direction="encrypt",peer="site-b"} 3`,
		`qkdmail_keys_used_total{direction="encrypt",peer="site-c"} 2`, // spent, though not delivered
		`qkdmail_keys_used_total{direction="decrypt",peer="site-b"} 0`,
		`qkdmail_message_size_bytes_bucket{direction="encrypt",le="4096"} 1`,
		`qkdmail_message_size_bytes_sum{direction="encrypt"} 5000`,
		`qkdmail_message_duration_seconds_count{direction="encrypt"} 2`, // not of the command
		`qkdmail_key_fetch_duration_seconds_bucket{direction="encrypt",le="0.025"} 1`,
		`qkdmail_next_hop_duration_seconds_sum{direction="encrypt"} 1`,
		`qkdmail_next_hop_duration_seconds_count{direction="decrypt"} 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("not in the metrics: %s", want)
		}
	}
	if strings.Contains(body, `outcome="refused",peer="(none)"`) {
		t.Error("a command counts as a message")
	}
}

// A message that all recipients already have is not counted again as received
// or decrypted.
func TestDeliveredBeforeIsNotCountedAgain(t *testing.T) {
	r := newRig(t)
	r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeDecrypted, ""))
	r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeBefore, ""))
	_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/metrics")
	for _, want := range []string{
		`qkdmail_messages_total{direction="decrypt",outcome="delivered before",peer="site-b",suite="AES-256-GCM"} 1`,
		`qkdmail_keys_used_total{direction="decrypt",peer="site-b"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("not in the metrics: %s", want)
		}
	}
	r.check(t.Context())
	if v := r.view(); v.Peers[0].Decrypted != 1 || v.Hour.Strips[0].Label != "Last hour, Delivered: 1 in all, at most 1 in a minute" {
		t.Errorf("the page has %d received, and %q; want 1 of each", v.Peers[0].Decrypted, v.Hour.Strips[0].Label)
	}
}

// There is a stock metric only where it is needed, because alerts are based on
// it.
func TestKeyStockWhereMailIsEncrypted(t *testing.T) {
	for name, tt := range map[string]struct {
		old, new     string
		siteB, siteC bool
	}{
		"both":         {"", "", true, true},
		"never site-c": {"peer = \"site-c\"\nsuite = \"otp\"", "encrypt = \"never\"", true, false},
		"decrypt only": {"direction = \"encrypt\"", "direction = \"decrypt\"", false, false},
	} {
		cfg, err := config.Parse("relay.toml", []byte(strings.Replace(rigConfig, tt.old, tt.new, 1)))
		if err != nil {
			t.Fatal(name, err)
		}
		r := newRig(t, func(s *Sources) { s.Config = cfg })
		r.check(t.Context())
		_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/metrics")
		for line, want := range map[string]bool{
			`qkdmail_key_stock{peer="site-b"} 48000`: tt.siteB, `qkdmail_key_stock_capacity{peer="site-b"} 100000`: tt.siteB,
			`qkdmail_key_stock{peer="site-c"} 9200`: tt.siteC, `qkdmail_km_up{peer="site-c"} 1`: true,
		} {
			if got := strings.Contains(body, line+"\n"); got != want {
				t.Errorf("%s: %s is there: %v, want %v", name, line, got, want)
			}
		}
	}
}

func TestLatest(t *testing.T) {
	var l latest
	if got := l.list(); got != nil {
		t.Errorf("%v, want none", got)
	}
	for i := range 3*latestKept + 7 {
		l.add(refusal{Reason: fmt.Sprint(i)})
	}
	got := l.list()
	if len(got) != latestKept || got[0].Reason != fmt.Sprint(3*latestKept+6) || got[latestKept-1].Reason != fmt.Sprint(2*latestKept+7) {
		t.Errorf("%d refusals, from %s to %s", len(got), got[0].Reason, got[len(got)-1].Reason)
	}
}

func TestRefusalViews(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	var list []refusal
	for i := range 3 {
		list = append(list, refusal{At: at.Add(-time.Duration(i) * time.Minute), Direction: mailer.DirectionDecrypt, Peer: "b", Reason: "damaged", Final: true})
	}
	list = append(list, refusal{At: at, Direction: mailer.DirectionEncrypt, Peer: "b", Reason: "damaged", Final: true})
	views := refusalViews(list)
	if len(views) != 2 || views[0].Times != 3 || !views[0].At.Equal(at) || views[0].At.Location() != time.UTC || views[0].Advice == "" || views[1].Times != 1 {
		t.Errorf("%+v", views)
	}
	list = nil
	for _, r := range mailer.Reasons() {
		list = append(list, refusal{Reason: r.Name})
	}
	if n := len(refusalViews(list)); n != maxRows {
		t.Errorf("%d rows, want %d", n, maxRows)
	}
}

// TestCountAtOnce counts from many goroutines while others look.
func TestCountAtOnce(t *testing.T) {
	r := newRig(t)
	r.check(t.Context())
	const workers, each = 16, 500
	var work, look sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		look.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.view()
					if _, err := r.reg.Gather(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for w := range workers {
		work.Go(func() {
			for i := range each {
				m := report(mailer.DirectionEncrypt, fmt.Sprintf("peer-%d", w%4), mailer.OutcomeEncrypted, "")
				if i%10 == 0 {
					m.Outcome, m.Reason = mailer.OutcomeDeferred, "no key left"
				}
				r.Message(m)
			}
		})
	}
	work.Wait()
	close(stop)
	look.Wait()
	if got := r.count.delivered.Load() + r.count.deferred.Load(); got != workers*each {
		t.Errorf("%d messages, want %d", got, workers*each)
	}
	hour, _ := func() ([]bucket, []bucket) { r.note(); return r.history.series(r.clock()) }()
	if b := hour[len(hour)-1]; b.Delivered != workers*each*9/10 || b.Deferred != workers*each/10 {
		t.Errorf("the last minute has %+v", b)
	}
}

// Counting a message must cost next to nothing compared with the message
// itself.
func BenchmarkMessage(b *testing.B) {
	r := newRig(b)
	m := report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeEncrypted, "")
	for name, reason := range map[string]string{"delivered": "", "refused": "damaged"} {
		m.Reason = reason
		if reason != "" {
			m.Outcome = mailer.OutcomeRefused
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r.Message(m)
				}
			})
		})
	}
}

// A delivered message is counted without allocating.
func TestMessageAllocatesNothing(t *testing.T) {
	r := newRig(t)
	m := report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeEncrypted, "")
	if n := testing.AllocsPerRun(100, func() { r.Message(m) }); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}
