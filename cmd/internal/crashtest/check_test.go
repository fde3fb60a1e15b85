package crashtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// openStore opens the store in which the relays of an SAE keep their keys.
func openStore(t testing.TB, at storeOf, sae string) *keystore.Store {
	t.Helper()
	engine, err := at.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := keystore.Open(t.Context(), nil, keystore.Options{
		Engine: engine, Key: keystore.KeyFile(cmp.Or(at.key, at.url+".key"), nil), SAE: sae,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// claimedIn returns which of the keys used for encryption a store knows.
func (w *world) claimedIn(t testing.TB, s *keystore.Store) map[string]bool {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := map[string]bool{}
	for id := range w.used {
		claimed, err := s.Claimed(t.Context(), "SAE_B", id)
		if err != nil {
			t.Fatal(err)
		}
		ids[kmclient.CanonicalID(id)] = claimed
	}
	return ids
}

// keptIn returns the IDs of the receiving keys that a store knows.
func keptIn(t testing.TB, s *keystore.Store) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for info, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids[kmclient.CanonicalID(info.ID)] = true
	}
	return ids
}

// check checks everything that must hold at the end, when no message is on its
// way, and returns the failures. claimed and kept are the key IDs in the stores
// of the two sides.
func (w *world) check(claimed, kept map[string]bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.link.repeated; len(r) > 0 {
		w.wrongf("the key managers gave out %d keys twice: the test proves nothing", len(r))
	}
	for id := range w.used {
		if !claimed[kmclient.CanonicalID(id)] {
			w.wrongf("key %s was used, but is not in the store of sending keys", id)
		}
	}
	for number, m := range w.messages {
		w.checkMessage(number, m)
	}
	for _, p := range w.letters {
		w.checkPassed(p, kept)
	}
	for _, r := range w.relays {
		for _, word := range []string{"panic", "alarm=", "WARNING: DATA RACE"} {
			if log := r.log(); strings.Contains(log, word) {
				line, _, _ := strings.Cut(log[strings.Index(log, word):], "\n")
				w.wrongf("%s: %s", r.name, line)
			}
		}
	}
	return w.wrong
}

// checkMessage checks that a message arrived, and how often.
func (w *world) checkMessage(number int, m *message) {
	for _, rcpt := range m.rcpts {
		if m.arrived[rcpt] == 0 {
			w.wrongf("message %d has not arrived at %s", number, rcpt)
		}
		if extra := m.taken[rcpt] - m.answered[rcpt]; extra > m.lost[rcpt] {
			w.wrongf("message %d was encrypted %d times for %s: %d answers of 250, %d answers lost",
				number, m.taken[rcpt], rcpt, m.answered[rcpt], m.lost[rcpt])
		} else if extra > 0 {
			w.count.twiceEncrypted += extra
		}
	}
}

// checkPassed checks what became of an encrypted message.
func (w *world) checkPassed(p *passed, kept map[string]bool) {
	given, opened := false, false
	for rcpt, d := range p.rcpts {
		opened = opened || d.arrived > 0
		switch {
		case d.refused:
			given = true
		case d.arrived == 0:
			w.wrongf("a ciphertext of message %d for %s was answered, but not delivered", p.number, rcpt)
		}
		if d.arrived > 1+d.excuses || d.refused && d.arrived > d.excuses {
			w.wrongf("a ciphertext of message %d was delivered to %s %d times, with %d answers lost; given up: %v",
				p.number, rcpt, d.arrived, d.excuses, d.refused)
		}
		w.count.twiceDelivered += max(0, d.arrived-1)
	}
	for _, id := range p.ids {
		if opened && !kept[kmclient.CanonicalID(id)] {
			w.wrongf("message %d was delivered, but its key %s is not in the store", p.number, id)
		}
	}
	if given {
		switch why := w.whyGone(p, kept); why {
		case byKill, byCut, byKM, byStore:
			w.count.gone[why]++
		default:
			w.wrongf("a ciphertext of message %d was given up without a reason: %s", p.number, why)
		}
	}
}

// storeFailed reports whether a relay answered that it can't use its store.
func (t *try) storeFailed() bool {
	for _, a := range t.answers {
		if a.text == storeFails {
			return true
		}
	}
	return false
}

// The reasons for which an encrypted message may be given up.
const (
	byKill = "a relay was killed"
	byCut  = "the connection was cut"
	byKM   = "the key manager did not answer"
	// The key waited in memory, and the store did not recover in time.
	byStore = "the store failed, and the relay was killed later"
)

// whyGone returns why an encrypted message was given up. That is allowed if the
// key manager gave out a key that is not in the store, and something happened to
// a relay while it had the message, or first to the store and then to the relay.
func (w *world) whyGone(p *passed, kept map[string]bool) string {
	unknown := slices.DeleteFunc(slices.Clone(p.ids), func(id string) bool { return kept[kmclient.CanonicalID(id)] })
	if len(unknown) == 0 {
		return "its keys are in the store"
	}
	for _, id := range unknown {
		given, broken := w.link.handedOut(id)
		switch {
		case given == 0 && broken > 0:
			return byKM
		case given == 0:
			continue
		}
		for _, t := range p.tries {
			if slices.ContainsFunc(t.relay.deaths(), t.overlaps) {
				return byKill
			}
			if _, cuts := t.relay.km.faults(); slices.ContainsFunc(cuts, t.overlaps) {
				return byCut
			}
			if t.storeFailed() && slices.ContainsFunc(t.relay.deaths(), func(s span) bool { return s.from > t.to }) {
				return byStore
			}
		}
		var tries strings.Builder
		for _, t := range p.tries {
			fmt.Fprintf(&tries, "; %v at %s: %v", t.span, t.relay.name, t.answers)
		}
		return fmt.Sprintf("key %s was given out, and nothing was cut or killed at that time%s", id, tries.String())
	}
	return fmt.Sprintf("the key manager has not given out keys %v", unknown)
}
