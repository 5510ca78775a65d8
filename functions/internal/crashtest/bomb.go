package crashtest

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Bomb kills the process (SIGKILL) when it passes the point that CRASH_AT names,
// as "before claim" or "after claim:3" for the third time.
type Bomb struct {
	point string
	left  atomic.Int64
}

// NewBomb reads CRASH_AT.
func NewBomb() *Bomb {
	point, times, _ := strings.Cut(os.Getenv("CRASH_AT"), ":")
	b := &Bomb{point: point}
	n, _ := strconv.Atoi(times) // none: the first time
	b.left.Store(int64(max(1, n)))
	return b
}

// around passes the points before and after a call.
func (b *Bomb) around(call string, do func()) {
	b.pass("before " + call)
	do()
	b.pass("after " + call)
}

func (b *Bomb) pass(point string) {
	if point == b.point && b.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
