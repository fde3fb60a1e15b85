package cipher

import (
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Inspect tells what an encrypted message says of itself, without any key. It
// reads the whole message and checks its structure, but nothing of what it
// tells is authenticated. The errors are those of [Decrypt].
func Inspect(src io.Reader) (*Info, error) {
	outer, err := envelope.NewReader(nil, src)
	if err != nil {
		return nil, err
	}
	info := outerInfo(outer)
	for f := range rawheader.Fields(outer.Header, rawheader.Lenient) {
		info.Outer = append(info.Outer, Field{Name: string(f.Name), Value: f.Text()})
	}
	payload := &countingReader{r: outer}
	switch info.Suite {
	case SuiteAES256GCM:
		info.KeyIDs = []string{outer.Control.KeyID}
		_, err = io.Copy(io.Discard, payload)
		info.PlaintextSize = gcmstream.PlaintextSize(payload.n)
		if err == nil && info.PlaintextSize < 0 {
			err = gcmstream.ErrTruncated
		}
	case SuiteOTP:
		err = inspectFrames(payload, &info)
	default:
		err = fmt.Errorf("%w %.40q", ErrSuite, outer.Control.Suite)
	}
	info.PayloadSize = payload.n
	if err != nil {
		return nil, fromReading(err)
	}
	return &info, nil
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
	}
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
