// Package terminal is what a user of the command line sees: exit codes and advice,
// standard streams, output files that appear only when they are complete, and text
// that is safe to print.
package terminal
