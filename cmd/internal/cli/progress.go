package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressPause is how long a line of progress stands before the next.
const progressPause = 100 * time.Millisecond

// A progress shows on a terminal how much of a batch is read: what is written
// to it is counted. A library for that made the program start slower, by about a
// tenth of what a short message takes.
type progress struct {
	terminal    io.Writer
	done, total int64 // octets; a total of 0 is not known
	next        time.Time
}

// newProgress returns nil where standard error is no terminal.
func newProgress(stderr io.Writer, total int64) *progress {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &progress{terminal: stderr, total: total}
}

// Write never fails: the troubles of a terminal are nobody's.
func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if now := time.Now(); !now.Before(p.next) {
		p.next = now.Add(progressPause)
		p.clear()
		fmt.Fprint(p.terminal, p.line())
	}
	return len(b), nil
}

func (p *progress) line() string {
	const mega = 1e6
	if p.total == 0 || p.done > p.total { // a file that has grown
		return fmt.Sprintf("%.1f MB", float64(p.done)/mega)
	}
	return fmt.Sprintf("%3d %% of %.1f MB", 100*p.done/p.total, float64(p.total)/mega)
}

// clear empties the line, for what else is to be said. A nil progress has none.
func (p *progress) clear() {
	if p != nil {
		fmt.Fprint(p.terminal, "\r\x1b[K")
	}
}
