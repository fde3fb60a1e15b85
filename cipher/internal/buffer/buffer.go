// Package buffer keeps the large buffers that a message needs for a while, to
// use them again: most messages are small, and making and collecting buffers
// would cost more than encryption does.
package buffer

import "sync"

// Size holds a sealed chunk or a frame's ciphertext (65,536 octets) with a
// little more.
const Size = 65536 + 64

// A Buffer is one message's alone between Get and Free.
type Buffer [Size]byte

var pool = sync.Pool{New: func() any { return new(Buffer) }}

// Get returns a buffer of zeros.
func Get() *Buffer { return pool.Get().(*Buffer) }

// Free wipes the buffer and gives it back; nothing may refer to it any more.
// On nil it does nothing.
func (b *Buffer) Free() {
	if b == nil {
		return
	}
	clear(b[:])
	pool.Put(b)
}
