package mailer

import "sync"

// A block is a buffer that a message needs for a while. Blocks are used again,
// since messages are small: making and collecting them would cost more than
// encryption does. They hold mail, which is wiped before.
type block [64 << 10]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

func getBlock() *block { return blocks.Get().(*block) }

// free wipes the first octets of a block, as many as were used at most, and
// gives it back; nothing may refer to it any more.
func (b *block) free(used int) {
	clear(b[:used])
	blocks.Put(b)
}
