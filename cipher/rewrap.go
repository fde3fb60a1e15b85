package cipher

import (
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Rewrap puts a new outer message around the control part and the payload of an
// encrypted message, without a key. The outer message is the one that Encrypt would
// make from the header of src and from Headers, Note, CRLF, UTF8 and From of opts.
// Everything else in src is dropped, so that nothing travels in clear beside the
// encrypted message.
//
// The error is ErrSAE if the message is not from opts.SAE to opts.Peer, or one of the
// errors of [Decrypt]. After an error, dst may hold a part of the message.
func Rewrap(dst io.Writer, src io.Reader, opts *EncryptOptions) error {
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
	if suite := Suite(outer.Control.Suite); !suite.known() {
		return fmt.Errorf("%w %.40q", ErrSuite, suite)
	}
	if isDate(outer.Control.Time) {
		o.Time = outer.Control.Time
	}
	fields := newOuterHeader(&o)
	for f := range rawheader.Fields(outer.Header, rawheader.Lenient) {
		fields.take(f)
	}
	w, err := envelope.NewWriter(dst, envelope.WriterOptions{
		Outer: fields.build(), Control: *outer.Control, Note: *o.Note,
		CRLF: o.CRLF || usesCRLF(outer.Header),
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
