// Package terminal has what a user of the command line sees: exit codes and advice,
// standard streams, output files that appear as a whole, and text that does no harm
// to a terminal.
package terminal
