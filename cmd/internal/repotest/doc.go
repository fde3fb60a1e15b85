// Package repotest tests the repository as a whole: that docs/architecture.md
// names every package, that no import goes the wrong way, that the public API
// does not grow unnoticed, and how the documents are written.
package repotest
