package progresstest

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

const patience = 30 * time.Second

// Session is a pseudo-terminal with a Screen that takes what is written there.
type Session struct {
	t       testing.TB
	pty     *os.File
	screen  *Screen
	written chan struct{} // full when there is something new
	drained chan struct{} // closed when nothing more can come
	cmd     *exec.Cmd
	wait    func() error
}

// Open returns a pseudo-terminal of so many columns and rows, for a test that writes
// to tty by itself. The test is skipped where there are none; both are closed with
// it.
func Open(t testing.TB, cols, rows int) (s *Session, tty *os.File) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		skip(t, err)
	}
	s = newSession(t, master, cols, rows)
	t.Cleanup(func() { _ = tty.Close() }) // first, so that the other side comes to its end
	if err := pty.Setsize(master, size(cols, rows)); err != nil {
		t.Fatal(err)
	}
	return s, tty
}

// Start runs cmd with its own pseudo-terminal for what of stdin, stdout and stderr
// is nil; it is that terminal's foreground process, so that Send("\x03") is Ctrl-C.
// cmd.Env must be set (TERM too). It is killed with the end of the test.
func Start(t testing.TB, cmd *exec.Cmd, cols, rows int) *Session {
	t.Helper()
	if cmd.Env == nil {
		t.Fatal("progresstest.Start: cmd.Env is nil: a child needs an environment of its own")
	}
	if _, err := os.Stat("/dev/ptmx"); err != nil {
		skip(t, err)
	}
	master, err := pty.StartWithSize(cmd, size(cols, rows))
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(t, master, cols, rows)
	s.cmd, s.wait = cmd, sync.OnceValue(cmd.Wait)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = s.wait()
	})
	return s
}

func skip(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("TEST_REQUIRE") == "all" {
		t.Fatalf("no pseudo-terminal: %v", err)
	}
	t.Skipf("no pseudo-terminal: %v: use Linux with devpts mounted at /dev/pts", err)
}

func size(cols, rows int) *pty.Winsize {
	return &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}
}

func newSession(t testing.TB, master *os.File, cols, rows int) *Session {
	s := &Session{t: t, pty: master, screen: New(cols, rows), written: make(chan struct{}, 1), drained: make(chan struct{})}
	go func() {
		defer close(s.drained)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = s.screen.Write(buf[:n])
			select {
			case s.written <- struct{}{}:
			default:
			}
			if err != nil { // EIO on Linux when the last of the other side is closed
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = master.Close()
		<-s.drained
	})
	return s
}

// Screen returns the screen, which goes on changing.
func (s *Session) Screen() *Screen { return s.screen }

// Send types the keys.
func (s *Session) Send(keys string) {
	s.t.Helper()
	if _, err := s.pty.WriteString(keys); err != nil {
		s.t.Errorf("send %q: %v", keys, err)
	}
}

// Resize changes the terminal's size, the screen first; see [Screen.Resize].
func (s *Session) Resize(cols, rows int, reflow bool) {
	s.t.Helper()
	s.screen.Resize(cols, rows, reflow)
	if err := pty.Setsize(s.pty, size(cols, rows)); err != nil {
		s.t.Errorf("resize: %v", err)
	}
}

// Until waits for what is true of the lines on the screen, 30 seconds at most; the
// test ends with the screen when it does not come.
func (s *Session) Until(what string, is func(lines []string) bool) {
	s.t.Helper()
	timeout := time.After(patience)
	for gone := false; !is(s.screen.Lines()); {
		if gone {
			s.t.Fatalf("nothing more will come, and not %s:\n%s", what, strings.Join(s.screen.All(), "\n"))
		}
		select {
		case <-s.written:
		case <-s.drained:
			gone = true
		case <-timeout:
			s.t.Fatalf("no %s in %v:\n%s", what, patience, strings.Join(s.screen.All(), "\n"))
		}
	}
}

// UntilText waits for a line that contains text.
func (s *Session) UntilText(text string) {
	s.t.Helper()
	s.Until(text, func(lines []string) bool { return strings.Contains(strings.Join(lines, "\n"), text) })
}

// Wait waits until the command of Start has ended and all of its output is on the
// screen, 30 seconds at most, and returns what [exec.Cmd.Wait] does. It may be called
// again.
func (s *Session) Wait() error {
	s.t.Helper()
	kill := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	err := s.wait()
	if !kill.Stop() {
		s.t.Fatalf("process %d did not end in %v:\n%s", s.cmd.Process.Pid, patience, strings.Join(s.screen.All(), "\n"))
	}
	select {
	case <-s.drained:
	case <-time.After(patience):
		s.t.Fatalf("a child of process %d holds the terminal open", s.cmd.Process.Pid)
	}
	return err
}
