package cipher_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// A vectorSuite is a suite and the prefix of its vectors' names.
type vectorSuite struct {
	name  string
	suite cipher.Suite
}

var vectorSuites = []vectorSuite{
	{"aes", cipher.SuiteAES256GCM}, {"otp", cipher.SuiteOTP},
	{"aes-x-wing", cipher.SuiteAES256GCMXWing}, {"otp-x-wing", cipher.SuiteOTPXWing},
}

// options returns the options for a message with only a control part and a payload.
func (s vectorSuite) options() cipher.EncryptOptions {
	note := ""
	return cipher.EncryptOptions{Suite: s.suite, Hybrid: s.hybrid(), Note: &note}
}

func (s vectorSuite) hybrid() *cipher.HybridPublicKey {
	if !s.suite.Hybrid() {
		return nil
	}
	return hybridKey().Public()
}

// acceptVectors has messages of all sizes that matter. A full chunk or frame takes 65,536
// octets, of which 4 are an empty recipient list.
func acceptVectors(t *testing.T) map[string]vector {
	t.Helper()
	vectors := map[string]vector{}
	for _, s := range vectorSuites {
		for _, n := range []int{0, 1, 200, 65531, 65532, 65533, 70000} {
			opts := s.options()
			opts.Note = nil
			vectors[fmt.Sprintf("%s-%05d", s.name, n)] = *newVectorKM().makeVector(t, fmt.Sprintf("%d octets", n), n, opts)
		}
		if s.suite.Plain() == cipher.SuiteOTP {
			vectors[s.name+"-many-frames"] = *smallKeys().makeVector(t, "frames of 255 keys of 48 octets", 20_000, s.options())
		}
	}
	return vectors
}

// acceptForms has messages that are written in unusual ways, or changed on their way.
func acceptForms(t *testing.T) map[string]vector {
	t.Helper()
	pad := cipher.EncryptOptions{Suite: cipher.SuiteOTP}
	vectors := map[string]vector{}
	texts := newVectorKM()
	texts.newID = func(n int) string { return fmt.Sprintf("MOCK-KEY-%08d-20251012195636", n+1) }
	vectors["otp-text-ids"] = *texts.makeVector(t, "key IDs that are no UUIDs", 200, pad)
	upper := newVectorKM()
	upper.newID = func(n int) string { return strings.ToUpper(uuidN(n)) }
	vectors["otp-upper-case-uuid"] = *upper.makeVector(t, "UUIDs in upper case are written as text", 200, pad)
	vectors["saes"] = *newVectorKM().makeVector(t, "with SAE IDs", 200, cipher.EncryptOptions{SAE: "SAE_A", Peer: "SAE_B"})
	vectors["saes-escaped"] = *newVectorKM().makeVector(t, "SAE IDs that need percent-encoding", 200, cipher.EncryptOptions{SAE: "Zürich 100%", Peer: "-"})
	vectors["crlf"] = *newVectorKM().makeVector(t, "CRLF line ends", 200, cipher.EncryptOptions{CRLF: true})

	bare := newVectorKM().makeVector(t, "no note", 200, vectorSuites[0].options())
	vectors["no-note"] = *bare
	vectors["no-header-field"] = bare.with(t, "without Qkdmail-Key-ID", "", "Qkdmail-Key-ID: "+uuidN(0)+"\n", "")
	vectors["became-mixed"] = bare.with(t, "multipart/encrypted became multipart/mixed", "", "multipart/encrypted", "multipart/mixed")
	vectors["control-base64"] = bare.with(t, "the control part in base64", "", "qkdmail\n\n"+controlOf(bare),
		"qkdmail\nContent-Transfer-Encoding: base64\n\n"+base64.StdEncoding.EncodeToString([]byte(controlOf(bare))))
	lines := strings.Split(controlOf(bare), "\n")
	slices.Reverse(lines)
	vectors["control-reversed"] = bare.with(t, "fields in another order and case, with blanks", "", controlOf(bare), strings.NewReplacer("Version", "vERSION", "Key-ID:", "KEY-ID \t:").Replace(strings.Join(lines, " \n\n\t")))
	one := base64.StdEncoding.EncodeToString(payloadOf(t, bare.message))
	_, after, _ := strings.Cut(string(bare.message), "base64\n\n")
	payload, _, _ := strings.Cut(after, "\n\n--")
	vectors["payload-one-line"] = bare.with(t, "base64 in one line", "", payload, one)
	footer := bare.with(t, "inside multipart/mixed, with a footer", "", "", "")
	footer.message = []byte("From: list@example.org\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=L\n\n--L\n" + string(bare.message) + "\n--L\nContent-Type: text/plain\n\nfooter\n--L--\n")
	vectors["list-footer"] = footer
	return vectors
}

// acceptHybrid has messages for one of several private keys.
func acceptHybrid(t *testing.T) map[string]vector {
	t.Helper()
	vectors := map[string]vector{}
	for _, s := range vectorSuites {
		v := newVectorKM().makeVector(t, "the reader has two private keys, and the message is for the second", 200, s.options())
		v.seeds = [][]byte{otherSeed(), counted(32)}
		if !s.suite.Hybrid() {
			v.comment = "a plain suite; the reader has two private keys"
		}
		vectors[s.name+"-two-private-keys"] = *v
	}
	return vectors
}

// otherSeed is the seed of a private key that is not hybridKey.
func otherSeed() []byte {
	seed := counted(32)
	slices.Reverse(seed)
	return seed
}

// acceptRecipients has messages that are sealed for recipients. A list of 4,096 takes
// 65,540 octets: more than a chunk or frame.
func acceptRecipients(t *testing.T) map[string]vector {
	t.Helper()
	vectors := map[string]vector{}
	for _, s := range vectorSuites {
		for _, n := range []int{1, 3, 4096} {
			opts := s.options()
			opts.Recipients = vectorRecipients(n)
			vectors[fmt.Sprintf("%s-recipients-%04d", s.name, n)] = *newVectorKM().makeVector(t, fmt.Sprintf("sealed for %d recipients", n), 200, opts)
		}
	}
	opts := vectorSuites[0].options()
	opts.Recipients = []string{"bob@b.example", "postmaster", "bob@[ipv6:2001:db8::1]", "jörg@b.example", "bob@b.example"}
	vectors["recipients-forms"] = *newVectorKM().makeVector(t, "recipients of several forms, one of them twice", 200, opts)
	opts.Recipients = vectorRecipients(4096)
	vectors["recipients-4096-empty"] = *newVectorKM().makeVector(t, "an empty message for 4,096 recipients", 0, opts)
	return vectors
}

func vectorRecipients(n int) (addresses []string) {
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("r%d@b.example", i))
	}
	return addresses
}
