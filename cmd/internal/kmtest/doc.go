// Package kmtest runs simulated key managers in tests: the KMEs of any network,
// or one link of two sites with what key managers in the field do.
package kmtest
