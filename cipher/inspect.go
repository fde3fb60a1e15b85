package cipher

import (
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Inspect reports what an encrypted message says about itself, without a key. It
// reads the whole message and checks its structure, but nothing in its report is
// authenticated. The errors are those of [Decrypt].
func Inspect(src io.Reader) (*Info, error) {
	outer, err := envelope.NewReader(nil, src)
	if err != nil {
		return nil, err
	}
	info := outerInfo(outer)
	for f := range rawheader.Fields(outer.Header, rawheader.Lenient) {
		info.Outer = append(info.Outer, Field{Name: string(f.Name), Value: f.Text()})
	}
	if err := inspectPayload(outer, &info); err != nil {
		return nil, fromReading(err)
	}
	return &info, nil
}

func inspectPayload(payload io.Reader, info *Info) error {
	if !info.Suite.known() {
		return fmt.Errorf("%w %.40q", ErrSuite, info.Suite)
	}
	var before int64
	if info.Suite.Hybrid() {
		header, err := readHybridHeader(payload)
		if err != nil {
			return err
		}
		info.Fingerprint, before = header.fingerprint(), int64(len(header))
	}
	inspect := inspectChunks
	if info.Suite.Plain() == SuiteOTP {
		inspect = inspectFrames
	}
	err := inspect(payload, info)
	info.PayloadSize += before
	return err
}

func inspectChunks(payload io.Reader, info *Info) (err error) {
	info.KeyIDs = []string{info.KeyID}
	if info.PayloadSize, err = io.Copy(io.Discard, payload); err != nil {
		return err
	}
	if info.PlaintextSize = gcmstream.PlaintextSize(info.PayloadSize); info.PlaintextSize < 0 {
		return gcmstream.ErrTruncated
	}
	return nil
}

func inspectFrames(payload io.Reader, info *Info) error {
	frames := otp.NewFrameReader(payload)
	defer frames.Free()
	for {
		f, err := frames.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		info.KeyIDs = append(info.KeyIDs, f.KeyIDs...)
		info.PlaintextSize += int64(f.Length)
		for _, part := range f.Raw() {
			info.PayloadSize += int64(len(part))
		}
	}
}
