package mailer

import (
	"sync"
	"time"
)

// heldReplies are those that were not sent yet: they wait for more until the
// client is waited for.
type heldReplies struct {
	mu    sync.Mutex
	text  []byte
	timer *time.Timer // sends them; nil before the first
}

// How much of replies is held back, and how long while further commands are
// carried out: a next hop that takes its time for each recipient must not keep
// the answers to the first from the client until it gives up.
const (
	maxHeld  = 4 << 10
	holdHeld = time.Second
)

// hold begins to hold replies back.
func (h *heldReplies) hold(flush func()) {
	if h.timer == nil {
		h.timer = time.AfterFunc(holdHeld, flush)
		return
	}
	h.timer.Reset(holdHeld)
}

// write answers, at once or with what is answered next.
func (f *front) write(p []byte) error {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	if len(f.out.text) == 0 {
		f.out.hold(func() { _ = f.flush() })
	}
	f.out.text = append(f.out.text, p...)
	if len(f.out.text) >= maxHeld {
		return f.send()
	}
	return nil
}

// flush sends what was answered.
func (f *front) flush() error {
	f.out.mu.Lock()
	defer f.out.mu.Unlock()
	if len(f.out.text) == 0 {
		return nil
	}
	return f.send()
}

// send sends what is held. A client that does not take it is not listened to
// any more.
func (f *front) send() error {
	f.out.timer.Stop()
	f.mu.Lock()
	conn := f.plain
	f.mu.Unlock()
	var err error
	if f.opts.Write > 0 {
		err = conn.SetWriteDeadline(time.Now().Add(f.opts.Write))
	}
	if err == nil {
		_, err = conn.Write(f.out.text)
	}
	if f.out.text = f.out.text[:0]; err != nil {
		f.mu.Lock()
		f.gone = true
		f.mu.Unlock()
	}
	return err
}
