package cipher

import (
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Reframe writes an encrypted message anew, without its key. The control part and the
// payload stay as they are. Around them stands what Encrypt would put there, from the
// header of src and as opts say with Headers, Note, LineEnd, UTF8 and From. Whatever
// else was around them is dropped, so that nothing in clear travels beside.
//
// The error is an ErrSAE if the message is not from opts.SAE to opts.Peer, or what
// [Decrypt] says of a message that it can't read. dst may have part of a message then.
func Reframe(dst io.Writer, src io.Reader, opts *EncryptOptions) error {
	o, err := opts.withDefaults()
	if err != nil {
		return err
	}
	outer, err := openEnvelope(src)
	if err != nil {
		return err
	}
	defer outer.Free()
	if c := outer.Control; c.SenderSAE != controlSAE(o.SAE) || c.RecipientSAE != controlSAE(o.Peer) {
		return fmt.Errorf("%w: it is from %q to %q", ErrSAE, c.SenderSAE, c.RecipientSAE)
	}
	if suite := Suite(outer.Control.Suite); suite != SuiteAES256GCM && suite != SuiteOTP {
		return fmt.Errorf("%w %.40q", ErrSuite, suite)
	}
	if isDate(outer.Control.Time) {
		o.Time = outer.Control.Time
	}
	fields := newOuterBuilder(&o)
	for f := range rawheader.Fields(outer.Header, rawheader.Lenient) {
		fields.take(f)
	}
	w, err := envelope.NewWriter(dst, envelope.WriterOptions{
		Outer: fields.fields(), Control: *outer.Control, Note: *o.Note,
		CRLF: o.LineEnd == LineEndCRLF || o.LineEnd == LineEndAuto && rawheader.UsesCRLF(outer.Header),
	})
	if err != nil {
		return err
	}
	defer w.Free()
	outer.Header = nil
	if _, err := io.Copy(w, outer); err != nil {
		return fromReading(err)
	}
	return w.Close()
}
