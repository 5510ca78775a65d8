package main

import "syscall"

// ownGroup keeps the operator's Ctrl-C from a function that this command still waits
// for, and has the kernel end the function politely when the command dies.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
