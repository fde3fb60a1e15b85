package cli

import (
	"bytes"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var terminal bytes.Buffer
	p := &progress{terminal: &terminal, total: 4_000_000}
	for _, tt := range []struct {
		octets int
		pause  bool // the line before has stood for long enough
		want   string
	}{
		{1_000_000, true, "\r\x1b[K 25 % of 4.0 MB"},
		{1_000_000, false, ""},
		{1_999_999, true, "\r\x1b[K 99 % of 4.0 MB"},
		{1, true, "\r\x1b[K100 % of 4.0 MB"},
		{500_000, true, "\r\x1b[K4.5 MB"}, // a file that has grown
	} {
		terminal.Reset()
		p.next = time.Now().Add(time.Hour)
		if tt.pause {
			p.next = time.Time{}
		}
		if n, err := p.Write(make([]byte, tt.octets)); n != tt.octets || err != nil {
			t.Errorf("Write of %d octets: %d, %v", tt.octets, n, err)
		}
		if got := terminal.String(); got != tt.want {
			t.Errorf("after %d octets: %q, want %q", p.done, got, tt.want)
		}
	}
	var none *progress
	none.clear() // must not panic: standard error was no terminal
}
