//go:build !unix

package main

import "syscall"

// ownGroup does nothing: there are no process groups.
func ownGroup() *syscall.SysProcAttr { return nil }
