package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A letter is a message of the corpus.
type letter struct {
	file string
	text []byte
}

// corpus returns the messages that SMTP can carry, with CRLF at every line end,
// the last included. Most of them are not part of the repository; QKDMAIL_CORPUS
// names the folder.
func corpus(t *testing.T) []letter {
	t.Helper()
	external := os.Getenv("QKDMAIL_CORPUS")
	if external == "" {
		external = filepath.Join("..", "..", "..", "..", "shared", "corpus")
	}
	var letters []letter
	why := map[string]int{}
	files := 0
	for _, dir := range []string{filepath.Join("..", "..", "..", "testdata", "mail"), external} {
		names, err := filepath.Glob(filepath.Join(dir, "*.eml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files++
			data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
			if !bytes.HasSuffix(data, []byte("\n")) {
				data = append(data, "\r\n"...)
			}
			if reason := notForSMTP(data); reason != "" {
				why[reason]++
				continue
			}
			letters = append(letters, letter{name, data})
		}
	}
	if len(letters) < 20 {
		t.Fatalf("%d messages, want at least 20", len(letters))
	}
	t.Logf("%d messages, of which SMTP can carry %d; it can't carry the others: %v", files, len(letters), why)
	return letters
}

// notForSMTP returns why a message can't be sent over SMTP, or is refused by
// servers that follow RFC 5321; "" if it can be sent.
func notForSMTP(data []byte) string {
	received := 0
	for f := range rawheader.Fields(data, rawheader.Lenient) {
		if f.Is("Received") {
			received++
		}
	}
	switch {
	case bytes.IndexByte(data, 0) >= 0:
		return "NUL"
	case bytes.Count(data, []byte("\r")) != bytes.Count(data, []byte("\r\n")):
		return "bare CR"
	case received > 40:
		return "loop"
	}
	return ""
}

// TestCorpus sends each message through both sites with every suite. The message
// in Postfix A's queue arrives at B's sink byte for byte, below trace fields and
// the result. Postfix itself changes a few messages; a copy that bypasses the
// relays shows how.
func TestCorpus(t *testing.T) {
	// A relay that knows its site's domains refuses a From that it can't read, such as some
	// of these messages have.
	w := newWorld(t, options{edit: func(_, file, text string) string {
		if before, after, ok := strings.Cut(text, "[site]\n"); ok && file == "relay.toml" {
			_, after, _ = strings.Cut(after, "\n\n")
			text = before + after
		}
		return text
	}})
	letters := corpus(t)
	start := time.Now()
	sendAll(t, w.a.ports[portOwn], len(letters), 10, func(i int) ([]string, []byte) {
		return recipients(i), letters[i].text
	})
	relaytest.Await(t, 2*time.Minute, "all mail", func() bool {
		return len(w.b.sink.all()) >= 2*len(letters) && len(w.a.sink.all()) >= len(letters) ||
			len(w.a.sink.to("sender@a.example")) > 0
	})
	for _, m := range w.a.sink.to("sender@a.example") {
		t.Errorf("a bounce:\n%.2000s", m.data)
	}
	exact, changes := 0, map[string]int{}
	for i, l := range letters {
		to := recipients(i)
		control := w.a.sink.one(t, to[2])
		switch c := changed(l.text, belowReceived(control.data)); c {
		case "":
			exact++
		case "other":
			t.Errorf("Postfix has changed %s:\n%.3000q", l.file, control.data)
		default:
			changes[c]++
		}
		for _, r := range to[:2] {
			m := w.b.sink.to(r)
			if len(m) != 1 {
				t.Errorf("%s: %d times at %s", l.file, len(m), r)
				continue
			}
			above, ok := bytes.CutSuffix(m[0].data, control.data)
			if !ok {
				t.Errorf("%s: other bytes at %s:\n%.3000q\nwithout relay:\n%.3000q", l.file, r, m[0].data, control.data)
				continue
			}
			checkAbove(t, l.file, above)
		}
	}
	t.Logf("%d messages with every suite in %v: %d arrived as sent, the others as Postfix A alone changes them: %v",
		len(letters), time.Since(start).Round(100*time.Millisecond), exact, changes)
}

// belowReceived returns a message without the trace field of its only Postfix.
func belowReceived(data []byte) []byte {
	for first := true; first || len(data) > 0 && data[0] == '\t'; first = false {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data
}

// changed returns how Postfix's smtpd and cleanup changed a message, "" if they
// did not. No setting prevents these changes.
func changed(sent, got []byte) string {
	var how []string
	for !bytes.Equal(sent, got) {
		k := 0
		for k < min(len(sent), len(got)) && sent[k] == got[k] {
			k++
		}
		lineStart := k == 0 || sent[k-1] == '\n'
		sent, got = sent[k:], got[k:]
		unblank := bytes.TrimLeft(sent, " \t")
		if after, ok := bytes.CutPrefix(got, []byte("X-Mailbox-Line: ")); ok {
			how, got = append(how, "mbox line made a field"), after
		} else if after, ok := bytes.CutPrefix(got, []byte("\r\n")); ok && lineStart {
			how, got = append(how, "blank line put below the header"), after
		} else if bytes.HasPrefix(unblank, []byte(":")) && got[0] == ':' {
			how, sent = append(how, "blank before a colon removed"), unblank
		} else {
			return "other"
		}
	}
	slices.Sort(how)
	how = slices.Compact(how)
	return strings.Join(how, ", ")
}

func recipients(i int) []string {
	return []string{fmt.Sprintf("m%d@b.example", i), fmt.Sprintf("m%d@aes.b.example", i), fmt.Sprintf("m%d@control.example", i)}
}

// checkAbove checks what is above a restored message: trace fields, and one
// result.
func checkAbove(t *testing.T, file string, above []byte) {
	t.Helper()
	size, _ := rawheader.End(above, rawheader.Lenient)
	results := 0
	for f := range rawheader.Fields(above, rawheader.Lenient) {
		switch {
		case f.Is("Qkdmail-Result"):
			results++
		case !f.Is("Received"):
			t.Errorf("%s: above the message: %q", file, f.Raw)
		}
	}
	if size != len(above) || results != 1 {
		t.Errorf("%s: above the message, with %d results:\n%s", file, results, above)
	}
}

// sendAll sends messages over some connections at the same time.
func sendAll(t *testing.T, port, number, connections int, message func(i int) ([]string, []byte)) {
	t.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			c, err := dial(port)
			if err != nil {
				t.Error(err)
				for range next {
				}
				return
			}
			defer c.close()
			for i := range next {
				to, data := message(i)
				if err := c.send("sender@a.example", to, data); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
		})
	}
	for i := range number {
		next <- i
	}
	close(next)
	wg.Wait()
}
