//go:build unix

package run

import (
	"os"
	"syscall"
)

// lock keeps the file for this process until it is closed.
func lock(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == syscall.EWOULDBLOCK {
		return ErrLocked
	} else if err != nil {
		return err
	}
	return nil
}
