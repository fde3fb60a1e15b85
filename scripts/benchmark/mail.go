package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
)

const mailHead = `Received: from mx.a.example (mx.a.example [192.0.2.1])
	by mail.b.example with ESMTPS id 4Tq1; Mon, 13 Oct 2025 09:56:37 +0200
From: Alice Example <alice@a.example>
To: Bob Example <bob@b.example>
Cc: Carol Example <carol@b.example>
Date: Mon, 13 Oct 2025 09:56:36 +0200
Message-ID: <20251013075636.1@a.example>
In-Reply-To: <20251012195636.7@b.example>
References: <20251012195636.7@b.example>
Subject: The drawings
User-Agent: Example Mail 1.0
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="frontier"

--frontier
Content-Type: text/plain; charset=utf-8

Dear Bob,

here are the drawings.

Alice

--frontier
Content-Type: application/pdf; name="drawings.pdf"
Content-Disposition: attachment; filename="drawings.pdf"
Content-Transfer-Encoding: base64

`

const mailTail = "--frontier--\n"

// mail is a message of about that many octets, nearly all of them an attachment:
// what large mails are. It can't be compressed further than base64 allows, and
// is always the same.
func mail(octets int) io.Reader {
	const line = 77 // octets, with its end
	lines := max(1, (octets-len(mailHead)-len(mailTail))/line)
	return io.MultiReader(
		strings.NewReader(mailHead),
		io.LimitReader(&attachment{random: rand.NewChaCha8([32]byte{})}, int64(lines*line)),
		strings.NewReader(mailTail),
	)
}

// An attachment is random octets without end, in lines of base64.
type attachment struct {
	random *rand.ChaCha8
	rest   []byte
}

func (a *attachment) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(a.rest) == 0 {
			var octets [57]byte
			_, _ = a.random.Read(octets[:]) // never fails
			a.rest = append(base64.StdEncoding.AppendEncode(a.rest[:0], octets[:]), '\n')
		}
		c := copy(p[n:], a.rest)
		a.rest, n = a.rest[c:], n+c
	}
	return n, nil
}

func writeMail(path string, octets int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, mail(octets)); err != nil {
		return err
	}
	return f.Close()
}

// sameFile is an error if two files differ.
func sameFile(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	return same(fa, fb)
}

func same(a, b io.Reader) error {
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := 0; ; {
		na, errA := io.ReadFull(a, bufA)
		nb, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return fmt.Errorf("the restored message is another, from octet %d to %d on", at, at+max(na, nb))
		}
		if errA != nil || errB != nil {
			return errors.Join(notEnd(errA), notEnd(errB))
		}
		at += na
	}
}

// notEnd returns err unless it is that there is no more to read.
func notEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}
