package crashtest

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
	"github.com/qkdmail/qkdmail/kmclient"
)

// TestTwins offers two messages under one key to several relays at the same time,
// while the relays and the primary of their store are killed. Someone who has a
// key must not get another message opened with it: one of the two is delivered and
// the other refused, whichever relay gets which.
func TestTwins(t *testing.T) {
	const pairs = 150
	p := startPair(t)
	link := newLink(t, "")
	sink := &twinSink{arrived: map[int]bool{}}
	addr := relaytest.MailServer{Take: sink.take}.Start(t)
	o := &order{}
	var relays []*relay
	store := p.store("twins")
	for _, name := range []string{"decrypt0", "decrypt1", "decrypt2"} {
		relays = append(relays, newRelay(t, o, link, decrypt, name, store, addr))
	}
	logAtEnd(t, relays)
	startAll(t, relays)

	var mu sync.Mutex
	refused := map[int]string{}
	mta := newMTA(t, o, 1, relays, false, 16)
	mta.answered = func(*job, *try) {}
	mta.refused = func(j *job, _, why string) {
		mu.Lock()
		defer mu.Unlock()
		refused[j.letter.number] = why
	}
	c := newChaos(1, relays)
	c.kills(400 * time.Millisecond)
	c.takeovers(p, 6*time.Second)
	km := link.Client("SAE_A")
	for n := range pairs {
		for i, text := range twins(t, km, n) {
			mta.add(&job{letter: &letter{number: 2*n + i, from: "alice@a.example", data: text}, rcpts: []string{"bob@b.example"}})
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.stop(t)
	mta.calm.Store(true)
	relaytest.Await(t, 2*time.Minute, "an answer for all", func() bool { return mta.pending.Load() == 0 })

	lost := 0
	for n := range pairs {
		one, other := 2*n, 2*n+1
		if sink.has(one) && sink.has(other) {
			t.Errorf("pair %d: both were opened under one key", n)
			continue
		}
		if !sink.has(one) {
			one, other = other, one
		}
		switch {
		case sink.has(one) && !strings.Contains(refused[other], "belongs to another message"):
			t.Errorf("pair %d: one arrived, and the other was refused with %q", n, refused[other])
		case !sink.has(one) && refused[one] == keyNotHere && refused[other] == keyNotHere:
			lost++
		case !sink.has(one):
			t.Errorf("pair %d: neither arrived: %q, %q", n, refused[one], refused[other])
		}
	}
	kills := 0
	for _, r := range relays {
		kills += len(r.deaths())
	}
	if lost > pairs/2 || kills == 0 {
		t.Errorf("%d of %d pairs lost their key and %d relays were killed: this proves nothing", lost, pairs, kills)
	}
	t.Logf("%d pairs under one key each, %d kills: never were both opened; %d times neither, because the key was lost on its way", pairs, kills, lost)
}

// A twinSink notes which messages arrive.
type twinSink struct {
	mu      sync.Mutex
	arrived map[int]bool
}

var numberField = regexp.MustCompile(`\r\nX-Number: (\d+)\r\n`)

func (s *twinSink) take(_ string, _ []string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := numberField.FindSubmatch(data)
	if m == nil {
		return busy
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived[n] = true
	return nil
}

func (s *twinSink) has(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrived[n]
}

// twins makes two messages that share a key.
func twins(t testing.TB, km kmclient.KeyManager, n int) [2][]byte {
	t.Helper()
	suite := cipher.SuiteOTP
	if n%2 == 0 {
		suite = cipher.SuiteAES256GCM
	}
	source := &oneKey{KeyManager: km}
	var pair [2][]byte
	for i := range pair {
		text := "From: alice@a.example\r\nTo: bob@b.example\r\nX-Number: " + strconv.Itoa(2*n+i) + "\r\n\r\nsecret\r\n"
		pair[i] = seal(t, source, suite, []byte(text))
	}
	return pair
}

// seal encrypts a message as a relay of site A does.
func seal(t testing.TB, source cipher.KeySource, suite cipher.Suite, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := cipher.Encrypt(t.Context(), &b, source, &cipher.EncryptOptions{Suite: suite, SAE: "SAE_A", Peer: "SAE_B", CRLF: true})
	if err == nil {
		_, err = e.Write(text)
	}
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A oneKey gives out the same key again and again, as no key manager may do.
type oneKey struct {
	kmclient.KeyManager
	id     string
	octets []byte
}

func (k *oneKey) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if k.octets == nil {
		keys, err := k.KeyManager.GetKeys(ctx, peer, size, number)
		if err != nil {
			return nil, err
		}
		k.id, k.octets = keys[0].ID(), bytes.Clone(keys[0].Reveal())
	}
	return []*kmclient.Key{kmclient.NewKey(k.id, bytes.Clone(k.octets))}, nil
}
