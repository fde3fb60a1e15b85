// Package vectors has test vectors of the qkdmail message format, for programs that read
// it. README.md beside it explains the files and how to judge a reader by them.
package vectors

import "embed"

// Files has the vectors: accept/NAME.txt and reject/NAME.txt, a case each, and
// addresses.txt.
//
//go:embed accept reject addresses.txt
var Files embed.FS
