package cipher_test

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

const hybridBegin = 32 + indEnc // size of what a payload with X-Wing begins with

// rejectHybrid has messages with X-Wing that were changed, or are for another key.
func rejectHybrid(t *testing.T) map[string]vector {
	t.Helper()
	vectors := map[string]vector{}
	for _, s := range vectorSuites[2:] {
		v := newVectorKM().makeVector(t, "", 200, s.options())
		// AES-256-GCM has a commitment to the key; in OTP the tag of a frame is wrong.
		late := map[cipher.Suite]string{cipher.SuiteAES256GCM: "wrong-key", cipher.SuiteOTP: "altered"}[s.suite.Plain()]
		add := func(name string, v vector) { vectors[s.name+"-"+name] = v }
		add("fingerprint-first", v.withPayload(t, "the first bit of the fingerprint", "no-hybrid-key", flipped(0)))
		add("fingerprint-last", v.withPayload(t, "the last bit of the fingerprint", "no-hybrid-key", flipped(31)))
		add("enc-first", v.withPayload(t, "a bit of enc, of its first octet", late, flipped(32)).after(1, 0))
		add("enc-ml-kem", v.withPayload(t, "a bit of enc, of the last octet for ML-KEM", late, flipped(32+1087)).after(1, 0))
		add("enc-x25519", v.withPayload(t, "a bit of enc, of the first octet for X25519", late, flipped(32+1088)).after(1, 0))
		add("plain-first", v.withPayload(t, "a bit of salt or tag", late, flipped(map[cipher.Suite]int{cipher.SuiteAES256GCM: hybridBegin, cipher.SuiteOTP: -1}[s.suite.Plain()])).after(1, 0))
		add("empty", v.withPayload(t, "an empty payload", "damaged", func(p []byte) []byte { return nil }))
		add("cut-in-fingerprint", v.withPayload(t, "ends in the fingerprint", "damaged", func(p []byte) []byte { return p[:31] }))
		add("cut-before-enc", v.withPayload(t, "ends after the fingerprint", "damaged", func(p []byte) []byte { return p[:32] }))
		add("cut-in-enc", v.withPayload(t, "ends in enc", "damaged", func(p []byte) []byte { return p[:hybridBegin-1] }))
		add("cut-after-enc", v.withPayload(t, "ends after enc", "damaged", func(p []byte) []byte { return p[:hybridBegin] }))
		add("time", v.with(t, "another Time", late, "\nTime: 1760298996", "\nTime: 1760298997").after(1, 0))

		other := newVectorKM().makeVector(t, "", 200, s.options())
		add("enc-of-another", v.withPayload(t, "enc of another message", late, func(p []byte) []byte {
			return slices.Concat(payloadOf(t, other.message)[:hybridBegin], p[hybridBegin:])
		}).after(1, 0))
		add("plain-of-another", v.withPayload(t, "what follows enc, of another message under the same key", late, func(p []byte) []byte {
			return slices.Concat(p[:hybridBegin], payloadOf(t, other.message)[hybridBegin:])
		}).after(1, 0))
		two := v.withPayload(t, "the fingerprint of the reader's other key", late, func(p []byte) []byte {
			sum := sha256.Sum256(newIndPrivate(otherSeed()).public())
			return slices.Concat(sum[:], p[32:])
		}).after(1, 0)
		two.seeds = append(two.seeds, otherSeed())
		add("fingerprint-of-another", two)
		none := v.refused("the reader has no private key", "no-hybrid-key")
		none.seeds = nil
		add("no-private-key", none)
		none.comment, none.seeds = "the reader has another private key", [][]byte{otherSeed()}
		add("other-private-key", none)
		wrong := v.refused("another key of the key manager", late).after(1, 0)
		wrong.keys = map[string][]byte{}
		for id, key := range v.keys {
			wrong.keys[id] = slices.Concat(key[1:], key[:1])
		}
		add("wrong-key", wrong)

		begin, _ := v.encapsulate(t)
		add("secret-not-used", v.withPlaintext(t, "made without the secret, from the key manager's key alone", late, make([]byte, 204), begin, nil).after(1, 0))
		for name, point := range map[string][]byte{"zero": make([]byte, 32), "one": append([]byte{1}, make([]byte, 31)...)} {
			low := slices.Concat(begin[:hybridBegin-32], point)
			_, octets := v.control(t)
			secret := indSecret(newIndPrivate(v.seeds[0]).combine(low[32:], make([]byte, 32)), octets)
			add("low-order-"+name, v.withPlaintext(t, "X25519 with a point of low order; all else is right", "wrong-key", make([]byte, 204), low, secret))
		}
	}
	return vectors
}

// rejectMixed has payloads under the name of another suite.
func rejectMixed(t *testing.T) map[string]vector {
	t.Helper()
	vectors := map[string]vector{}
	for _, from := range vectorSuites {
		for _, to := range vectorSuites {
			if from == to || from.suite.Hybrid() == to.suite.Hybrid() && !from.suite.Hybrid() {
				continue // suite-swapped has the plain suites
			}
			v := newVectorKM().makeVector(t, "", 2000, from.options())
			// Octets taken for a frame's flags or for the fingerprint must not fit by
			// chance, whatever the salt is.
			for from.suite.Plain() == cipher.SuiteAES256GCM && payloadOf(t, v.message)[len(payloadOf(t, v.message))-2000-4-16-64] < 2 {
				v = newVectorKM().makeVector(t, "", 2000, from.options())
			}
			v.seeds = [][]byte{counted(32)}
			expect, asked := "no-hybrid-key", 0 // the salt or the first frame is not a fingerprint
			switch {
			case from.suite.Hybrid() && to.suite.Plain() == cipher.SuiteOTP:
				expect = "damaged" // fingerprint or salt is not a frame
			case from.suite.Hybrid():
				expect, asked = "wrong-key", 1
			}
			vectors[from.name+"-as-"+to.name] = v.with(t, "the payload of "+string(from.suite)+" under the name of "+string(to.suite), expect,
				"\nSuite: "+string(from.suite)+"\n", "\nSuite: "+string(to.suite)+"\n").after(asked, 0)
		}
	}
	return vectors
}

// rejectRecipients has messages whose recipient list is broken, made by somebody who
// has all keys. This must be noticed, but only once the list is authentic.
func rejectRecipients(t *testing.T) map[string]vector {
	t.Helper()
	list := func(n uint32, size int) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), vectorMessage(size)...)
	}
	vectors := map[string]vector{}
	for _, s := range vectorSuites {
		v := newVectorKM().makeVector(t, "", 0, s.options())
		begin, secret := v.encapsulate(t)
		for name, c := range map[string]struct {
			comment   string
			plaintext []byte
		}{
			"nothing":          {"an empty plaintext", nil},
			"cut-in-number":    {"the plaintext ends in n", list(0, 0)[:3]},
			"cut-after-number": {"n is 1, and no list", list(1, 0)},
			"cut-in-digest":    {"n is 3, and one octet is missing", list(3, 47)},
			"too-many":         {"n is 4,294,967,295", list(1<<32-1, 160)},
		} {
			vectors[s.name+"-recipients-"+name] = v.withPlaintext(t, c.comment, "damaged", c.plaintext, begin, secret).after(1, 0)
		}
		long := v.withPlaintext(t, "4,097 recipients", "damaged", list(4097, 4097*16+200), begin, secret)
		if s.suite == cipher.SuiteAES256GCM {
			vectors[s.name+"-recipients-4097"] = long.after(1, 0)
		} else if s.suite == cipher.SuiteOTPXWing {
			vectors[s.name+"-recipients-4097"] = long.after(len(long.ids), 0)
		}
		cut := v.withPlaintext(t, "4,096 recipients, and the list ends after the first chunk or frame", "damaged", list(4096, 65536-4), begin, secret)
		cut.asked = 1
		if s.suite.Plain() == cipher.SuiteOTP {
			cut.asked = len(cut.ids)
		}
		vectors[s.name+"-recipients-cut-at-piece"] = cut
	}
	return vectors
}
