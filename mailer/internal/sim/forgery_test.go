package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// respelled returns the same mailboxes in another spelling.
func respelled(rcpts []string) (other []string) {
	for _, rcpt := range rcpts {
		local, domain, _ := strings.Cut(rcpt, "@")
		other = append(other, strings.ToUpper(local)+"@"+domain)
	}
	return other
}

// payloadAt returns where the payload of an encrypted message begins and ends.
func payloadAt(data []byte) (from, to int) {
	from = bytes.Index(data, []byte(payloadField))
	if from < 0 {
		return 0, len(data)
	}
	from += bytes.Index(data[from:], []byte("\r\n\r\n")) + 4
	to = from + bytes.Index(data[from:], []byte("\r\n--"))
	return from, to
}

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// flipped changes a character of the payload.
func flipped(data []byte, r *rand.Rand) []byte {
	from, to := payloadAt(data)
	data = bytes.Clone(data)
	for {
		at := from + r.IntN(to-from)
		if i := bytes.IndexByte([]byte(base64Letters), data[at]); i >= 0 {
			data[at] = base64Letters[(i+1+r.IntN(63))%64]
			return data
		}
	}
}

// truncated ends the payload early. It takes more than line ends, which say nothing.
func truncated(data []byte, r *rand.Rand) []byte {
	from, to := payloadAt(data)
	last := from + len(bytes.TrimRight(data[from:to], "\r\n")) - 1
	return append(bytes.Clone(data[:min(from+r.IntN(to-from), last)]), data[to:]...)
}

// rubbish returns the header of a message, which names a key, and a random payload.
func rubbish(data []byte, r *rand.Rand) []byte {
	from, to := payloadAt(data)
	head, tail := bytes.Clone(data[:from]), data[to:]
	for i := range 400 {
		if i > 0 && i%76 == 0 {
			head = append(head, "\r\n"...)
		}
		head = append(head, base64Letters[r.IntN(64)])
	}
	return append(head, tail...)
}

// renamed replaces the first key's name by one that nobody has.
func renamed(data []byte, r *rand.Rand) []byte {
	id := readCiphertext(data).ids[0]
	other := fmt.Sprintf("%08x-%s-%012x", r.Uint32(), id[9:23], r.Uint64()>>16)
	return bytes.ReplaceAll(data, []byte(id), []byte(other))
}

// swapped returns the header of one message and the payload of another.
func swapped(data, other []byte) []byte {
	from, to := payloadAt(data)
	a, b := payloadAt(other)
	return bytes.Join([][]byte{data[:from], other[a:b], data[to:]}, nil)
}
