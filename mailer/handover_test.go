package mailer_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

// A panic while a group's message is handed over costs that message, and neither another
// group's nor the process.
func TestHandOverPanics(t *testing.T) {
	mailtest.NoLeaks(t)
	policy, err := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1").Policy()
	if err != nil {
		t.Fatal(err)
	}
	step := mailer.Step{Policy: policy, LMTP: true, HandOver: func(_ smtp.Session, write func(io.Writer) error) ([]error, []string, error) {
		var b bytes.Buffer
		if err := write(&b); err != nil || strings.HasSuffix(b.String(), mailtest.Text) {
			return nil, nil, err
		}
		panic("not in clear")
	}}
	backend, err := mailer.Encrypt(&recordingBackend{}, mailer.EncryptOptions{Step: step, Keys: mailtest.NewKM()})
	if err != nil {
		t.Fatal(err)
	}
	got := lmtpAnswers(t, backend, mailtest.Text, "1@b.example", "2@clear.example")
	reply, ok := errors.AsType[*smtp.SMTPError](got["1@b.example"])
	if !ok || reply.Code != 451 || got["2@clear.example"] != nil {
		t.Errorf("the answers are %v, want 451 and 250", got)
	}
}
