//go:build !unix

package keystore

// likeOld has nothing to do where files have no owners of this kind.
func likeOld(_, _ string) error { return nil }
