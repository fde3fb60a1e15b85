// Package buffer pools the large buffers that each message needs for a short
// time. Most messages are small: allocating and collecting buffers would cost
// more than encryption.
package buffer

import "sync"

// Size is room for a sealed chunk or a frame's ciphertext (65,536 bytes) and
// a little more.
const Size = 65536 + 64

// A Buffer belongs to one message between Get and Free.
type Buffer [Size]byte

var pool = sync.Pool{New: func() any { return new(Buffer) }}

// Get returns a buffer. Its content is arbitrary.
func Get() *Buffer { return pool.Get().(*Buffer) }

// Free wipes the first used bytes of the buffer and returns it to the pool.
// The caller must keep no reference to it. On nil, Free does nothing.
func (b *Buffer) Free(used int) {
	if b == nil {
		return
	}
	clear(b[:min(used, Size)])
	pool.Put(b)
}

// TextSize is room for a sealed chunk as lines of base64, and for what
// precedes it in a message.
const TextSize = 96 << 10

// A Text holds what is sent, so it need not be wiped. It belongs to one
// message between GetText and Free.
type Text [TextSize]byte

var texts = sync.Pool{New: func() any { return new(Text) }}

// GetText returns a Text. Its content is arbitrary.
func GetText() *Text { return texts.Get().(*Text) }

// Free returns the Text to the pool. The caller must keep no reference to it.
// On nil, Free does nothing.
func (t *Text) Free() {
	if t != nil {
		texts.Put(t)
	}
}
