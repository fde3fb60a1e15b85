package kmtest_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/kmclient"
)

// pairs returns the two sites with one more SAE, SAE_D, which shares no keys
// with SAE_A.
func pairs() kmsim.Topology {
	t := kmsim.TwoSites()
	t.SAEs = append(t.SAEs, kmsim.SAE{ID: "SAE_D", KME: "KME_A"})
	t.Pairs = [][2]string{{"SAE_A", "SAE_B"}, {"SAE_D", "SAE_B"}}
	return t
}

func TestETSIClient(t *testing.T) {
	n := kmtest.StartKMEs(t, pairs(), kmsim.Options{}, nil)
	sender, recipient := n.Client("SAE_A"), n.Client("SAE_B")
	sent, err := sender.GetKeys(t.Context(), "SAE_B", 1024, 130) // two requests
	if err != nil {
		t.Fatal(err)
	}
	got, err := recipient.KeysByID(t.Context(), "SAE_A", sent[129].ID(), sent[0].ID())
	if err != nil || !bytes.Equal(got[0].Reveal(), sent[129].Reveal()) || !bytes.Equal(got[1].Reveal(), sent[0].Reveal()) {
		t.Errorf("KeysByID: %v, %v", got, err)
	}
	if _, err := recipient.KeysByID(t.Context(), "SAE_A", sent[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("KeysByID again: %v, want ErrKeyNotFound", err)
	}
	if st, err := sender.Status(t.Context(), "SAE_B"); err != nil || st.TargetKME != "KME_B" || st.MaxKeyPerRequest != 128 {
		t.Errorf("Status: %+v, %v", st, err)
	}
	if _, err := sender.GetKeys(t.Context(), "SAE_D", 256, 1); !errors.Is(err, kmclient.ErrRefused) {
		t.Errorf("a peer that is not paired: %v, want ErrRefused", err)
	}
}

// The client has the right answer, or a clear error, for each quirk.
func TestETSIClientQuirks(t *testing.T) {
	for name, c := range map[string]struct {
		o        kmsim.Options
		enc, dec error // of two keys of 512 bits, and of fetching them with one that isn't there
	}{
		"exhausted, 400": {kmsim.Options{Capacity: 1, ExhaustedStatus: 400}, kmclient.ErrKeyExhausted, nil},
		"exhausted, 503": {kmsim.Options{Capacity: 1}, kmclient.ErrKeyExhausted, nil},
		"unknown, 400":   {kmsim.Options{}, nil, kmclient.ErrKeyNotFound},
		"unknown, 404":   {kmsim.Options{Quirks: kmsim.Quirks{UnknownKeyStatus: 404}}, nil, kmclient.ErrKeyNotFound},
		"unknown, 500":   {kmsim.Options{Quirks: kmsim.Quirks{UnknownKeyStatus: 500}}, nil, kmclient.ErrKeyNotFound},
		"numeric target": {kmsim.Options{Quirks: kmsim.Quirks{NumericTarget: true}}, nil, kmclient.ErrKeyNotFound},
		"GET ignored":    {kmsim.Options{Quirks: kmsim.Quirks{IgnoreQuery: true}}, nil, kmclient.ErrKeyNotFound},
		"size ignored":   {kmsim.Options{Quirks: kmsim.Quirks{IgnoreSize: true}}, kmclient.ErrBadKey, nil},
		"keys kept":      {kmsim.Options{Quirks: kmsim.Quirks{KeepKeys: true}}, nil, kmclient.ErrKeyNotFound},
		"fewer keys":     {kmsim.Options{Quirks: kmsim.Quirks{FewerKeys: true}}, nil, nil},
		"answer lost":    {kmsim.Options{Quirks: kmsim.Quirks{LoseAnswers: 1}}, nil, kmclient.ErrKeyNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			n := kmtest.StartKMEs(t, kmsim.TwoSites(), c.o, nil)
			sender, recipient := n.Client("SAE_A"), n.Client("SAE_B")
			if _, err := sender.Status(t.Context(), "SAE_B"); err != nil {
				t.Errorf("Status: %v", err)
			}
			keys, err := sender.GetKeys(t.Context(), "SAE_B", 512, 2)
			if name == "fewer keys" {
				if err != nil || len(keys) != 1 {
					t.Errorf("GetKeys: %v, %v, want the one key that it gives", keys, err)
				}
				return
			}
			if !errors.Is(err, c.enc) || (err == nil) != (len(keys) == 2) {
				t.Fatalf("GetKeys: %v, %v, want %v", keys, err, c.enc)
			}
			if err != nil {
				return
			}
			missing := strings.Repeat("0", 8) + "-0000-4000-8000-" + strings.Repeat("0", 12)
			if _, err := recipient.KeysByID(t.Context(), "SAE_A", keys[0].ID(), missing); !errors.Is(err, c.dec) {
				t.Errorf("KeysByID with one unknown: %v, want %v", err, c.dec)
			}
			got, err := recipient.KeysByID(t.Context(), "SAE_A", keys[0].ID(), keys[1].ID())
			if err != nil || !bytes.Equal(got[1].Reveal(), keys[1].Reveal()) {
				t.Errorf("KeysByID: %v, %v", got, err)
			}
		})
	}
	n := kmtest.StartKMEs(t, pairs(), kmsim.Options{Quirks: kmsim.Quirks{RepeatKeys: true, HTMLErrors: true}}, nil)
	sender := n.Client("SAE_A")
	if _, err := sender.GetKeys(t.Context(), "SAE_B", 512, 1); err != nil {
		t.Errorf("GetKeys: %v", err)
	}
	if keys, err := sender.GetKeys(t.Context(), "SAE_B", 512, 1); !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("a key that was given out before: %v, %v, want ErrBadKey", keys, err)
	}
	if _, err := sender.GetKeys(t.Context(), "SAE_D", 256, 1); !errors.Is(err, kmclient.ErrRefused) {
		t.Errorf("a 401 in HTML: %v, want ErrRefused", err)
	}
}
