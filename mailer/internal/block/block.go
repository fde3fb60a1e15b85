// Package block has buffers for copying messages.
package block

import (
	"io"
	"sync"
)

// Size is the size of a Block in bytes.
const Size = 64 << 10

// A Block is a buffer. Blocks are reused: for small messages, making and collecting them
// would cost more than encrypting.
type Block [Size]byte

var pool = sync.Pool{New: func() any { return new(Block) }}

// Get returns a block, wiped.
func Get() *Block { return pool.Get().(*Block) }

// Free wipes the first used bytes of a block, which may be mail, and gives the block
// back. Nothing may refer to the block afterwards.
func (b *Block) Free(used int) {
	clear(b[:used])
	pool.Put(b)
}

// Copy copies from src to dst up to the end of src, a block at a time.
func Copy(dst io.Writer, src io.Reader) error {
	b, used := Get(), 0
	defer func() { b.Free(used) }()
	for {
		n, err := src.Read(b[:])
		used = max(used, n)
		if n > 0 {
			if _, werr := dst.Write(b[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
