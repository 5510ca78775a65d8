//go:build unix && !linux

package main

import "syscall"

// ownGroup keeps the operator's Ctrl-C from a function that this command still waits
// for.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
