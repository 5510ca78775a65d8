package progress

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/progress/progresstest"
)

// terminal is a Display on a pseudo-terminal, with the Options that Detect finds.
func terminal(t *testing.T, cols int, env map[string]string) (*progresstest.Session, *os.File, *Display) {
	t.Helper()
	s, tty := progresstest.Open(t, cols, 8)
	return s, tty, New(tty, Detect(tty, environment(env)))
}

func isOn(t *testing.T, s *progresstest.Session, want ...string) {
	t.Helper()
	s.Until(strings.Join(want, "\n"), func(lines []string) bool { return slices.Equal(lines, want) })
}

var xterm = map[string]string{"TERM": "xterm-256color", "LANG": "C.UTF-8"}

// halfway has a note of its own each time, so that it is drawn.
func halfway(note string) Snapshot {
	return Snapshot{
		Total: 5000, Done: 2500, Outcomes: map[events.Outcome]int{events.Pushed: 2497, events.Unknown: 2, events.Expired: 1},
		PerSecond: 9.8, Quota: 10, ETA: 255 * time.Second, Note: note,
	}
}

func TestOnTerminal(t *testing.T) {
	t.Parallel()
	s, _, d := terminal(t, 95, xterm)
	d.Update(Snapshot{Total: 5000})
	isOn(t, s, "  0%  ⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀  0/5000")
	const state = " 50%  2500/5000  pushed 2497  unknown 2  expired 1  9.8/s  98% of quota  ETA 4m15s  held"
	d.Update(halfway("held"))
	isOn(t, s, state)
	d.Say("first")
	isOn(t, s, "first", state)
	_, _ = d.Write([]byte("second\nthi"))
	isOn(t, s, "first", "second", state)
	_, _ = d.Write([]byte("rd\n" + strings.Repeat("x", 125) + "\nunfinished"))
	long := []string{strings.Repeat("x", 95), strings.Repeat("x", 30)}
	isOn(t, s, "first", "second", "third", long[0], long[1], state)
	d.Close()
	last := strings.Replace(state, "  ETA 4m15s", "", 1)
	isOn(t, s, "first", "second", "third", long[0], long[1], "unfinished", last)
	if x, y := s.Screen().Cursor(); x != 0 || y != 7 {
		t.Errorf("cursor in column %d of line %d, want 0 and 7", x, y)
	}
	if diff := cmp.Diff([]string{`"\x1b[0m"`, `"\x1b[31m"`, `"\x1b[33m"`, `"\x1b[J"`}, s.Screen().Escapes()); diff != "" {
		t.Errorf("escapes, -want +got:\n%s", diff)
	}
}

func TestOnNarrowTerminal(t *testing.T) {
	t.Parallel()
	for cols, want := range map[int]string{
		40: " 50%  2500/5000  unknown 2  held",
		20: " 50%  2500/5000",
		8:  " 50%",
	} {
		s, _, d := terminal(t, cols, xterm)
		for range 3 { // a line that wraps would leave something behind
			d.Update(halfway(""))
			d.Update(halfway("held"))
		}
		isOn(t, s, want)
		d.Close()
		d.Say("end")
		isOn(t, s, want, "end")
	}
}

// TestResize: what was drawn for another width is gone after the next time, on
// terminals that break long lines anew and on those that cut them off.
func TestResize(t *testing.T) {
	t.Parallel()
	for what, reflow := range map[string]bool{"breaks anew": true, "cuts off": false} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, _, d := terminal(t, 95, xterm)
			d.Say("before")
			d.Update(halfway("held"))
			s.UntilText("held")
			s.Resize(40, 8, reflow)
			d.Update(halfway("again"))
			isOn(t, s, "before", " 50%  2500/5000  unknown 2  again")
			s.Resize(95, 8, reflow)
			d.Update(halfway("wide"))
			isOn(t, s, "before", " 50%  2500/5000  pushed 2497  unknown 2  expired 1  9.8/s  98% of quota  ETA 4m15s  wide")
		})
	}
}

// TestInterruptKey: the ^C that a terminal echoes into the line is gone after the
// next time, also where the line takes all the room there is.
func TestInterruptKey(t *testing.T) {
	t.Parallel()
	s, _, d := terminal(t, 43, xterm)
	full := halfway("held")
	full.Outcomes[events.Failed] = 1
	d.Update(full)
	isOn(t, s, " 50%  2500/5000  unknown 2  failed 1  held")
	s.Send("\x03")
	s.UntilText("^C")
	full.Note = "done"
	d.Update(full)
	isOn(t, s, " 50%  2500/5000  unknown 2  failed 1  done")
}

// TestWithoutColour: the same line, no SGR.
func TestWithoutColour(t *testing.T) {
	t.Parallel()
	for value, colour := range map[string]bool{"1": false, "0": false, "": true} {
		s, _, d := terminal(t, 95, map[string]string{"TERM": "xterm", "NO_COLOR": value})
		d.Update(halfway("held"))
		isOn(t, s, " 50%  2500/5000  pushed 2497  unknown 2  expired 1  9.8/s  98% of quota  ETA 4m15s  held")
		d.Close()
		if got := slices.Contains(s.Screen().Escapes(), `"\x1b[31m"`); got != colour {
			t.Errorf("NO_COLOR=%q: escapes %s", value, s.Screen().Escapes())
		}
	}
}

// TestDumbTerminal: plain lines without any escape.
func TestDumbTerminal(t *testing.T) {
	t.Parallel()
	s, _, d := terminal(t, 95, map[string]string{"TERM": "dumb", "LANG": "C.UTF-8"})
	d.Update(halfway(""))
	d.Say("said")
	d.Update(halfway("held"))
	d.Close()
	const state = " 50%  2500/5000  pushed 2497  unknown 2  expired 1  9.8/s  98% of quota  ETA 4m15s"
	isOn(t, s, state, "said", state+"  held")
	if got := s.Screen().Escapes(); len(got) > 0 {
		t.Errorf("escapes %s", got)
	}
}

// TestColumns: COLUMNS counts when the terminal does not know its width.
func TestColumns(t *testing.T) {
	t.Parallel()
	for columns, want := range map[string]int{"50": 50, "many": 0, "": 0, "-3": -3} {
		_, tty := progresstest.Open(t, 0, 0)
		if got := Detect(tty, environment(map[string]string{"COLUMNS": columns})).Width(); got != want {
			t.Errorf("COLUMNS=%q: width %d, want %d", columns, got, want)
		}
	}
}
