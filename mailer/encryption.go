package mailer

import (
	"bytes"
	"errors"
	"io"
	"net"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// isEncrypted reports whether this site has already encrypted a message for the peer of a
// group, perhaps this relay in an earlier pass. The message must name a key that was
// claimed here to encrypt with: anyone can make text in clear look like an encrypted
// message. A plain suite is not enough if the peer has an X-Wing key, nor is any suite
// but OTP if a trigger wants a pad. Encrypting once more does no harm.
func (s *encryptSession) isEncrypted(g *group, src io.Reader) (encrypted bool, replay io.Reader, err error) {
	info, replay, err := cipher.Sniff(nil, src)
	if err != nil || s.o.Claims == nil || info == nil || info.KeyID == "" ||
		g.route.Peer.Hybrid != nil && !info.Suite.Hybrid() || info.SenderSAE != s.step.Policy.sae || info.RecipientSAE != g.route.Peer.SAE {
		return false, replay, err
	}
	if g.route.Trigger != "" && g.suite.Plain() == cipher.SuiteOTP && info.Suite.Plain() != cipher.SuiteOTP {
		return false, replay, nil
	}
	encrypted, err = s.o.Claims.Claimed(s.ctx, g.route.Peer.SAE, info.KeyID)
	return encrypted, replay, err
}

// cipherOptions say how the message of a group is encrypted under a suite.
func (s *encryptSession) cipherOptions(g *group, suite cipher.Suite) *cipher.EncryptOptions {
	return &cipher.EncryptOptions{
		Suite: suite, PadLimit: g.route.PadLimit, SAE: s.step.Policy.sae, Peer: g.route.Peer.SAE,
		Time: s.step.Now(), Headers: s.o.Headers, Note: s.o.Note, CRLF: true, UTF8: s.opts.UTF8, From: s.from,
		Hybrid: g.route.Peer.Hybrid, Recipients: g.rcpts,
	}
}

// encryptAny encrypts a message under the suite of its group. If the rule is
// opportunistic and the key manager says, before anything was written, that it has no
// key, the message goes out under the next best suite that the rule allows, and as a last
// resort in clear. It goes in clear only if the key manager has refused keys for this
// very message: what is known from other messages is not enough. To a peer with an X-Wing
// key every suite is a hybrid one.
func (s *encryptSession) encryptAny(g *group, src io.Reader, dst io.Writer) error {
	trial, err := s.checkShortage(g)
	asked := err == nil
	if asked {
		src, err = s.encrypt(g, g.suite, trial, src, dst)
	}
	falls := func() bool {
		return g.route.Mode == Opportunistic && errors.Is(err, kmclient.ErrKeyExhausted) && src != nil
	}
	if falls() && g.suite == cipher.SuiteAuto && g.done.suite.Plain() != cipher.SuiteAES256GCM {
		asked = true
		src, err = s.encrypt(g, cipher.SuiteAES256GCM, false, src, dst)
	}
	if falls() && asked && g.done.keys == 0 {
		return s.inClear(g, src, dst)
	}
	return err
}

// encrypt encrypts a message; trial is what checkShortage says. If the rule is
// opportunistic and nothing has been written, again is the message from its beginning.
func (s *encryptSession) encrypt(g *group, suite cipher.Suite, trial bool, src io.Reader, dst io.Writer) (again io.Reader, err error) {
	first := &firstWrite{dst: dst}
	w, err := cipher.Encrypt(s.ctx, first, &g.keys, s.cipherOptions(g, suite))
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	opportunistic := g.route.Mode == Opportunistic
	held, err := s.feed(w, src, first, opportunistic)
	info := w.Info()
	g.done = outcome{how: OutcomeEncrypted, suite: info.Suite, keys: g.done.keys + len(info.KeyIDs), size: info.PlaintextSize}
	if len(info.KeyIDs) > 0 {
		g.done.keyID = info.KeyIDs[0]
	}
	s.learn(g, info, trial, err)
	if opportunistic && !first.done {
		again = io.MultiReader(&held, src)
	}
	return again, err
}

// feed writes src into the cipher, and closes it. With hold it returns what it has fed to
// a cipher that has not written anything.
func (s *encryptSession) feed(w *cipher.Writer, src io.Reader, first *firstWrite, hold bool) (held net.Buffers, err error) {
	b, used := block.Get(), 0
	defer func() { b.Free(used) }()
	buf := b[:]
	for {
		n, rerr := io.ReadFull(src, buf)
		used = max(used, n)
		if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF { // these two mean the end: session.read replaces others
			return held, rerr
		}
		if hold && !first.done {
			held = append(held, bytes.Clone(buf[:n]))
		}
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return held, err
			}
		}
		if first.done {
			held = nil
		}
		if rerr != nil {
			return held, w.Close()
		}
	}
}

// A firstWrite notes that something was written.
type firstWrite struct {
	dst  io.Writer
	done bool
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.done = true
	return w.dst.Write(p)
}
