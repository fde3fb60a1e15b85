package buffer

import "testing"

// TestFree: a buffer goes back without what it held.
func TestFree(t *testing.T) {
	b := Get()
	for i := range b {
		b[i] = 'x'
	}
	b.Free()
	if *b != (Buffer{}) {
		t.Error("a buffer that was given back holds what it held")
	}
	(*Buffer)(nil).Free()
}
