package fcd

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"
)

// endWithParent has the kernel end an orphan; a group of its own keeps Ctrl-C from it.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// freeze returns when the kernel reports the process stopped.
func freeze(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if _, state, _ := bytes.Cut(stat, []byte(") ")); err != nil || bytes.HasPrefix(state, []byte("T")) {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func thaw(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
