package buffer

import "testing"

// TestFree checks that a buffer is wiped before it returns to the pool.
func TestFree(t *testing.T) {
	b := Get()
	for i := range 1000 {
		b[i] = 'x'
	}
	b.Free(1000)
	if *b != (Buffer{}) {
		t.Error("a buffer in the pool still holds data")
	}
	Get().Free(Size + 1)
	(*Buffer)(nil).Free(1)
}
