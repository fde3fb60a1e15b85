// Package kmtest runs simulated key managers in tests: the KMEs of any network,
// or one link between two sites with the habits of key managers in the field.
package kmtest
