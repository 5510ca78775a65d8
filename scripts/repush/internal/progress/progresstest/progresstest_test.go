package progresstest

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScreen(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		written string
		want    []string
	}{
		"nothing is written":            {"", []string{}},
		"lines":                         {"a\nb\r\nc", []string{"a", "b", "c"}},
		"a carriage return writes over": {"abc\rX", []string{"Xbc"}},
		"the last column does not wrap by itself": {"1234567890\rX", []string{"X234567890"}},
		"one more character does":                 {"1234567890a\rX", []string{"1234567890", "X"}},
		"a line end there is one line end":        {"1234567890\na", []string{"1234567890", "a"}},
		"erase to the end of the line":            {"abcdef\rab\x1b[K\nx", []string{"ab", "x"}},
		"erase the line":                          {"abcdef\x1b[2K\rx", []string{"x"}},
		"erase to the end of the screen":          {"a\nbcd\rb\x1b[J", []string{"a", "b"}},
		"erase the screen":                        {"a\nb\x1b[2J", []string{}},
		"colours take no room":                    {"\x1b[1;31m1234567890\x1b[0m", []string{"1234567890"}},
		"others take no room":                     {"\x1b[?25lx\x1b[5A", []string{"x"}},
		"characters of several bytes":             {"⣿⣀é", []string{"⣿⣀é"}},
		"what is no UTF-8":                        {"\xffa", []string{"\ufffda"}},
		"backspace and tab":                       {"ab\bX\tY\t\tZ", []string{"aX      YZ"}},
		"what has scrolled off is gone":           {"1\n2\n3\n4\n5", []string{"2", "3", "4", "5"}},
		"other control characters":                {"a\a\x7fb", []string{"ab"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			whole, bytewise := New(10, 4), New(10, 4)
			_, _ = whole.Write([]byte(test.written))
			for i := range len(test.written) {
				_, _ = bytewise.Write([]byte{test.written[i]})
			}
			if diff := cmp.Diff(test.want, whole.Lines()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(whole.Lines(), bytewise.Lines()); diff != "" {
				t.Errorf("-written at once +byte by byte:\n%s", diff)
			}
		})
	}
}

func TestScreenKeepsWhatScrolls(t *testing.T) {
	t.Parallel()
	s := New(10, 2)
	_, _ = s.Write([]byte("1\n2\n\x1b[31m3\x1b[0m\x1b[K"))
	if diff := cmp.Diff([]string{"1", "2", "3"}, s.All()); diff != "" {
		t.Errorf("All, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{`"\x1b[0m"`, `"\x1b[31m"`, `"\x1b[K"`}, s.Escapes()); diff != "" {
		t.Errorf("Escapes, -want +got:\n%s", diff)
	}
	if x, y := s.Cursor(); x != 1 || y != 2 {
		t.Errorf("cursor in column %d of line %d, want 1 and 2", x, y)
	}
}

func TestScreenResize(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		written string
		width   int
		reflow  bool
		next    string
		want    []string
	}{
		"narrower, cut off":                     {"a\n12345678\r", 5, false, "X", []string{"a", "X2345"}},
		"narrower, broken; the cursor stays":    {"a\n12345678\r", 5, true, "X", []string{"a", "X2345", "678"}},
		"narrower, the cursor in what is moved": {"1234567", 5, true, "X", []string{"12345", "67X"}},
		"wider, what was broken is joined":      {"1234567890abc\r", 20, true, "X", []string{"1234567890Xbc"}},
		"wider, ends of lines stay":             {"a\nb", 20, true, "X", []string{"a", "bX"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := New(10, 5)
			_, _ = s.Write([]byte(test.written))
			s.Resize(test.width, 5, test.reflow)
			_, _ = s.Write([]byte(test.next))
			if diff := cmp.Diff(test.want, s.Lines()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestStart: the command sees a terminal of the size asked for, takes keys, sees a
// resize and Ctrl-C, and its last words are on the screen after Wait.
func TestStart(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sh", "-c", `trap 'echo stopped; exit 3' INT; stty -echo; stty size; read x; echo "got $x"; stty size; while :; do read x; done`)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TERM=xterm"}
	s := Start(t, cmd, 40, 10)
	s.UntilText("10 40")
	s.Resize(60, 12, true)
	s.Send("hello\r")
	s.UntilText("12 60")
	s.Send("\x03")
	if err := s.Wait(); err == nil || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("Wait = %v, want status 3", err)
	}
	got := strings.Join(s.Screen().All(), "\n")
	if want := "10 40\ngot hello\n12 60\n"; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "stopped") {
		t.Errorf("screen:\n%s", got)
	}
}

// TestStartKills: what a test leaves running is gone with the test.
func TestStartKills(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sleep", "3600")
	cmd.Env = []string{}
	if !t.Run("leaves it running", func(t *testing.T) { Start(t, cmd, 40, 10) }) {
		t.FailNow()
	}
	if cmd.Process == nil {
		t.Skip("no pseudo-terminal, says the subtest")
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err == nil {
		t.Errorf("process %d is still there", cmd.Process.Pid)
	}
}
