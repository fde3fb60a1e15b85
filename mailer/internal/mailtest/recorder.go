package mailtest

import (
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
)

// A Recorder keeps reports.
type Recorder struct {
	mu      sync.Mutex
	reports []mailer.Report
}

// Message keeps a report.
func (r *Recorder) Message(m mailer.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, m)
}

// Last returns the last of n reports.
func (r *Recorder) Last(t testing.TB, n int) mailer.Report {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) != n {
		t.Fatalf("%d reports, want %d: %+v", len(r.reports), n, r.reports)
	}
	return r.reports[n-1]
}
