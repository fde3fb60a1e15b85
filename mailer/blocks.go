package mailer

import "sync"

// A block is a buffer that a message needs for a while. Blocks are used again,
// since messages are small: making and collecting them would cost more than
// encryption does. They hold mail, so they are wiped before.
type block [64 << 10]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

func getBlock() *block { return blocks.Get().(*block) }

// free gives a block back; nothing may refer to it any more.
func (b *block) free() {
	clear(b[:])
	blocks.Put(b)
}
