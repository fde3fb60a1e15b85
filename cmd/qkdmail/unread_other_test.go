//go:build !linux

package main

import "os"

// unread is not known here.
func unread(*os.File) int { return -1 }
