//go:build !linux

package redistest

import "syscall"

// endWithParent does nothing: other kernels have no such signal.
func endWithParent() *syscall.SysProcAttr { return nil }
