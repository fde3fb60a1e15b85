package admin

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// The page is well-formed, and has nothing that its Content-Security-Policy
// would block: nothing inline and nothing from elsewhere.
func TestPageIsWhole(t *testing.T) {
	for name, make := range pageStates() {
		r := newRig(t)
		make(r)
		_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/")
		var open []string
		ids := map[string]bool{}
		z := html.NewTokenizer(strings.NewReader(body))
		for z.Next() != html.ErrorToken {
			token := z.Token()
			switch token.Type {
			case html.StartTagToken:
				if !strings.Contains(" meta link rect br ", " "+token.Data+" ") {
					open = append(open, token.Data)
				}
				checkTag(t, ids, token)
			case html.EndTagToken:
				if token.Data == "rect" {
					break
				}
				if len(open) == 0 || open[len(open)-1] != token.Data {
					t.Fatalf("%s: </%s> within %v", name, token.Data, open)
				}
				open = open[:len(open)-1]
			case html.SelfClosingTagToken:
				checkTag(t, ids, token)
			}
		}
		if z.Err() != io.EOF || len(open) > 0 {
			t.Errorf("%s: %v, open at the end: %v", name, z.Err(), open)
		}
	}
}

func checkTag(t *testing.T, ids map[string]bool, token html.Token) {
	t.Helper()
	for _, a := range token.Attr {
		switch {
		case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
			t.Errorf("inline: %s", token)
		case (a.Key == "href" || a.Key == "src") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#"):
			t.Errorf("from elsewhere: %s", token)
		case a.Key == "id" && ids[a.Val]:
			t.Errorf("id %q twice", a.Val)
		case a.Key == "id":
			ids[a.Val] = true
		case a.Key == "aria-labelledby" && a.Val == "":
			t.Errorf("no name: %s", token)
		}
	}
	if token.Data == "style" || token.Data == "script" && !strings.Contains(token.String(), "src=") {
		t.Errorf("inline: %s", token)
	}
}

// Each state is shown in words, and problems come with advice.
func TestPageSays(t *testing.T) {
	for name, want := range map[string][]string{
		"healthy":          {"Mail flows", "about 3 days", "the stock does not fall", "None since the start.", "115 an hour", "Sent: messages for the peer", "Delivered: the next hop took the message. Deferred: not delivered now", "Stock lasts: how long"},
		"keys-running-out": {"something needs your attention", "They run out soon for site-c (about 2 hours).", "no key left", "Check the QKD link"},
		"km-down":          {"Mail waits", "It can&#39;t be reached or is out of service.", "Check the key manager", "7 times", "the last 100 refusals since the relay started", "Deferred: the mail system that sent the message tries again."},
		"attack": {"something needs your attention", "3 times a message came with the key of another message; once a message came under a key",
			"; 2 times a message came for a recipient that it was not sealed for. None", "Look for the alarm in the log"},
	} {
		r := newRig(t)
		pageStates()[name](r)
		_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/")
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: the page does not say %q", name, w)
			}
		}
		if strings.Contains(body, "192.0.2.7") {
			t.Errorf("%s: the page shows what others said", name)
		}
	}
}

func TestChart(t *testing.T) {
	now := newRig(t).now
	h := newHistory()
	h.note(now, totals{Delivered: 40, Refused: 1})
	hour, _ := h.series(now)
	c := newChart("hour", "Last hour", "by the minute", "a minute", "15:04", hour)
	delivered, refused := c.Strips[0], c.Strips[2]
	if got := fmt.Sprint(delivered.Bars); got != "[{59.10 0.00 40.00}]" || delivered.Label != "Last hour, Delivered: 40 in all, at most 40 in a minute" {
		t.Errorf("%s, %q", got, delivered.Label)
	}
	if got := fmt.Sprint(refused.Bars); got != "[{59.10 32.00 8.00}]" { // one alone does not fill the strip
		t.Errorf("%s", got)
	}
	if len(c.Rows) != 1 || c.From != "08:31" || c.Strips[1].Label != "Last hour, Deferred: 0 in all" {
		t.Errorf("%+v", c)
	}
}
