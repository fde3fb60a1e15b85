package smtpkit

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// NewRelay returns a relay on a free port of loopback that encrypts with
// AES-256-GCM. adapt, if not nil, changes its configuration.
func NewRelay(o config.QuickOptions, keys relay.Keys, log *slog.Logger, adapt func(*config.Config)) (*relay.Relay, error) {
	o.Listen, o.KM.URL = "127.0.0.1:0", "mock:unused"
	cfg, err := config.Quick(o)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Rules {
		cfg.Rules[i].Suite = string(cipher.SuiteAES256GCM)
	}
	if adapt != nil {
		adapt(cfg)
	}
	return relay.New(cfg, keys, log)
}

// Encrypt encrypts a message, with CRLF at the ends of lines.
func Encrypt(ctx context.Context, keys cipher.KeySource, message []byte, o cipher.EncryptOptions) ([]byte, error) {
	var out bytes.Buffer
	o.CRLF = true
	w, err := cipher.Encrypt(ctx, &out, keys, &o)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(message); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
