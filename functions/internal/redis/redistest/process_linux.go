package redistest

import "syscall"

// endWithParent keeps no server behind when the tests panic or are killed.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
