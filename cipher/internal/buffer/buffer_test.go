package buffer

import "testing"

// TestFree: a buffer goes back without what it held.
func TestFree(t *testing.T) {
	b := Get()
	for i := range 1000 {
		b[i] = 'x'
	}
	b.Free(1000)
	if *b != (Buffer{}) {
		t.Error("a buffer that was given back holds what it held")
	}
	Get().Free(Size + 1)
	(*Buffer)(nil).Free(1)
}
