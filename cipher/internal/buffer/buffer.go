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

// Get returns a buffer. What it holds is none of the caller's business.
func Get() *Buffer { return pool.Get().(*Buffer) }

// Free wipes the first octets of the buffer, as many as were used at most, and
// gives it back; nothing may refer to it any more. On nil it does nothing.
func (b *Buffer) Free(used int) {
	if b == nil {
		return
	}
	clear(b[:min(used, Size)])
	pool.Put(b)
}

// TextSize holds a sealed chunk as text, base64 in lines, and what stands
// before it in a message.
const TextSize = 96 << 10

// A Text holds what goes out, and so nothing that has to be wiped. It is one
// message's alone between GetText and Free.
type Text [TextSize]byte

var texts = sync.Pool{New: func() any { return new(Text) }}

// GetText returns a Text. What it holds is none of the caller's business.
func GetText() *Text { return texts.Get().(*Text) }

// Free gives the Text back; nothing may refer to it any more. On nil it does
// nothing.
func (t *Text) Free() {
	if t != nil {
		texts.Put(t)
	}
}
