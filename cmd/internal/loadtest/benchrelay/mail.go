package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
)

// mail is a message in the forms that targets get. Files have LF, of which
// smtp-source makes CRLF.
type mail struct {
	size                  int
	plainFile, sealedFile string
	plain, sealed         []byte
}

func (b *bench) newMail(size int) (*mail, error) {
	m := &mail{size: size, plainFile: b.file("plain"), sealedFile: b.file("sealed")}
	message := smtpkit.Message(size)
	m.plain = message
	sealed, err := seal(context.Background(), new(smtpkit.Keys), message, "", "")
	if err != nil {
		return nil, err
	}
	m.sealed = sealed
	return m, errors.Join(writeLF(m.plainFile, message), writeLF(m.sealedFile, sealed))
}

func writeLF(file string, message []byte) error {
	return os.WriteFile(file, []byte(strings.ReplaceAll(string(message), "\r\n", "\n")), 0o644)
}

func seal(ctx context.Context, keys cipher.KeySource, message []byte, sae, peer string) ([]byte, error) {
	var out bytes.Buffer
	w, err := cipher.Encrypt(ctx, &out, keys, &cipher.EncryptOptions{
		Suite: cipher.SuiteAES256GCM, CRLF: true, SAE: sae, Peer: peer,
	})
	if err == nil {
		_, err = w.Write(message)
	}
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

// sealedForEach is the message so many times, each with a key of its own of KME
// A: a store takes a key for one message, and delivers that once.
func (b *bench) sealedForEach(ctx context.Context, m *mail, n int) ([][]byte, error) {
	client, err := openETSI(b.km.address[0], b.km.certs, "SAE_A")
	if err != nil {
		return nil, err
	}
	pool, err := keypool.New(client, keypool.Options{})
	if err != nil {
		return nil, err
	}
	defer pool.Close(ctx)
	all := make([][]byte, n)
	for i := range all {
		if all[i], err = seal(ctx, pool, smtpkit.Message(m.size), "SAE_A", "SAE_B"); err != nil {
			return nil, err
		}
	}
	return all, nil
}
