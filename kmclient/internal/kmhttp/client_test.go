package kmhttp

import (
	"errors"
	"net"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

func TestCertificateAlert(t *testing.T) {
	for text, want := range map[string]bool{
		"tls: bad certificate": true, "tls: certificate required": true, "tls: unknown certificate authority": true,
		"tls: access denied": true, "tls: internal error": false,
	} {
		err := error(&net.OpError{Op: "remote error", Err: errors.New(text)})
		e := (&Client{}).noAnswer(t.Context(), t.Context(), "get keys", true, err)
		if errors.Is(e, kmclient.ErrRefused) != want || e.Lost == want {
			t.Errorf("%s: %v, lost %t, want refused: %t", text, e, e.Lost, want)
		}
	}
}
