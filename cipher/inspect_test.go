package cipher_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// TestInspect compares what Inspect reports, without a key, with the message.
func TestInspect(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		plain := append([]byte(shortMessage), make([]byte, 200_000)...)
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite, SAE: "A B", Peer: "100%"})
		info := infoOf(t, outer)
		if info.Suite != suite || info.SenderSAE != "A B" || info.RecipientSAE != "100%" || len(info.KeyIDs) != len(km.given) || info.KeyID != km.given[0].ID() {
			t.Errorf("%s: %+v", suite, info)
		}
		if info.PlaintextSize != int64(4+len(plain)) || info.PayloadSize != int64(len(payloadOf(t, outer))) {
			t.Errorf("%s: plaintext of %d bytes and payload of %d, want %d and %d", suite, info.PlaintextSize, info.PayloadSize, len(plain), len(payloadOf(t, outer)))
		}
		if len(info.Outer) == 0 || info.Outer[0] != (cipher.Field{Name: "Qkdmail-Key-ID", Value: info.KeyID}) {
			t.Errorf("%s: outer header %q", suite, info.Outer)
		}
	}
	// A value that is percent-encoded differently is shown as it is.
	outer := encrypt(t, newTestKM(), []byte(shortMessage), &cipher.EncryptOptions{SAE: "A"})
	if info := infoOf(t, bytes.Replace(outer, []byte("Sender-SAE: A"), []byte("Sender-SAE: %zz"), 1)); info.SenderSAE != "%zz" {
		t.Errorf("sender %q, want %q", info.SenderSAE, "%zz")
	}
}

func TestInspectRefuses(t *testing.T) {
	for _, suite := range suites {
		outer := encrypt(t, newTestKM(), []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		payload := payloadOf(t, outer)
		for name, tt := range map[string]struct {
			text []byte
			want error
		}{
			"ordinary mail": {[]byte(shortMessage), cipher.ErrNotEncrypted},
			"another suite": {bytes.Replace(outer, []byte("Suite: "), []byte("Suite: X-"), 1), cipher.ErrSuite},
			"a cut payload": {replacePayload(outer, payload[:30]), cipher.ErrDamaged},
			"no base64":     {bytes.Replace(outer, []byte("base64\n\n"), []byte("base64\n\n!"), 1), cipher.ErrDamaged},
		} {
			if info, err := cipher.Inspect(bytes.NewReader(tt.text)); !errors.Is(err, tt.want) || info != nil {
				t.Errorf("%s, %s: %+v, %v, want %v", suite, name, info, err, tt.want)
			}
		}
	}
}
