package progress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/progress/progresstest"
)

// step is one thing a program does to a Display, at a time in seconds.
type step struct {
	at float64
	do func(*Display)
}

func update(at float64, done int, note string) step {
	return step{at, func(d *Display) { d.Update(Snapshot{Total: 100, Done: done, Note: note, ETA: 5 * time.Second}) }}
}

func say(at float64, text string) step { return step{at, func(d *Display) { d.Say("%s", text) }} }

func closing(at float64) step { return step{at, (*Display).Close} }

// shown runs the steps and returns all that was written.
func shown(o Options, steps []step) string {
	var out bytes.Buffer
	var now float64
	o.Now = func() time.Time { return at(now) }
	d := New(&out, o)
	for _, s := range steps {
		now = s.at
		s.do(d)
	}
	return out.String()
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		steps []step
		want  string
	}{
		"nothing happened":              {[]step{closing(0)}, ""},
		"at once, then every 10 s":      {[]step{update(0, 0, ""), update(5, 1, ""), update(9.99, 2, ""), update(10, 3, ""), update(19.9, 4, "")}, "  0%  0/100  ETA 5s\n  3%  3/100  ETA 5s\n"},
		"another note: at once":         {[]step{update(0, 0, ""), update(1, 0, "held"), update(2, 1, "held"), update(3, 1, "")}, "  0%  0/100  ETA 5s\n  0%  0/100  ETA 5s  held\n  1%  1/100  ETA 5s\n"},
		"all is done: at once, once":    {[]step{update(0, 0, ""), update(1, 100, ""), update(2, 100, ""), closing(3)}, "  0%  0/100  ETA 5s\n100%  100/100  ETA 5s\n"},
		"Close shows what was not":      {[]step{update(0, 0, ""), update(1, 7, ""), closing(2)}, "  0%  0/100  ETA 5s\n  7%  7/100\n"},
		"Close repeats nothing":         {[]step{update(0, 7, ""), closing(2), closing(3)}, "  7%  7/100  ETA 5s\n"},
		"nothing after Close but Say":   {[]step{closing(0), update(1, 1, "x"), say(2, "bye")}, "bye\n"},
		"Say is a line":                 {[]step{say(0, "a"), update(1, 1, ""), say(2, "b\n"), say(3, "c\nd")}, "a\n  1%  1/100  ETA 5s\nb\nc\nd\n"},
		"control characters are not":    {[]step{say(0, "\x1b[31ma\tb\r\x07\u009b")}, "[31ma\tb\n"},
		"neither bar, whatever the set": {[]step{update(0, 50, "")}, " 50%  50/100  ETA 5s\n"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			got := shown(Options{Unicode: true, Width: func() int { return 5 }}, test.steps)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTerminalLines(t *testing.T) {
	t.Parallel()
	const erase = "\r\x1b[J"
	for what, test := range map[string]struct {
		o     Options
		steps []step
		want  string
	}{
		"nothing happened":     {Options{}, []step{closing(0)}, ""},
		"10 times a second":    {Options{}, []step{update(0, 0, ""), update(0.09, 1, ""), update(0.1, 2, ""), update(0.15, 3, "")}, erase + "  0%  ---------  0/100  ETA 5s\r" + erase + "  2%  ---------  2/100  ETA 5s\r"},
		"another note":         {Options{}, []step{update(0, 0, ""), update(0.01, 0, "held")}, erase + "  0%  ---------  0/100  ETA 5s\r" + erase + "  0%  0/100  ETA 5s  held\r"},
		"all is done":          {Options{}, []step{update(0, 99, ""), update(0.01, 100, ""), update(0.02, 100, "")}, erase + " 99%  #######-  99/100  ETA 5s\r" + erase + "100%  100/100  ETA 5s\r"},
		"Say before all":       {Options{}, []step{say(0, "a")}, "a\n"},
		"Say has the newest":   {Options{}, []step{update(0, 0, ""), update(0.01, 50, ""), say(0.02, "a")}, erase + "  0%  ---------  0/100  ETA 5s\r" + erase + "a\n 50%  ####----  50/100  ETA 5s\r"},
		"Close":                {Options{}, []step{update(0, 50, ""), closing(1), closing(2), say(3, "bye")}, erase + " 50%  ####----  50/100  ETA 5s\r" + erase + " 50%  50/100\nbye\n"},
		"Close has the newest": {Options{}, []step{update(0, 0, ""), update(0.01, 1, ""), closing(1)}, erase + "  0%  ---------  0/100  ETA 5s\r" + erase + "  1%  1/100\n"},
		"Unicode":              {Options{Unicode: true}, []step{update(0, 50, "")}, erase + " 50%  ⣿⣿⣿⣿⣀⣀⣀⣀  50/100  ETA 5s\r"},
		"width not known":      {Options{Width: func() int { return 0 }}, []step{update(0, 50, "")}, erase + " 50%  ###############---------------  50/100  ETA 5s\r"},
		"width below zero":     {Options{Width: func() int { return -5 }}, []step{update(0, 50, "")}, erase + " 50%  ###############---------------  50/100  ETA 5s\r"},
		"one column":           {Options{Width: func() int { return 1 }}, []step{update(0, 50, "")}, erase + "\r"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			test.o.Terminal = true
			if test.o.Width == nil {
				test.o.Width = func() int { return 31 }
			}
			if diff := cmp.Diff(test.want, shown(test.o, test.steps)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestDefaults: no width is 80 columns, no clock is that of this machine.
func TestDefaults(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := New(&out, Options{Terminal: true})
	d.Update(Snapshot{Note: strings.Repeat("x", 200)})
	if got := len(out.String()) - len("\r\x1b[J\r"); got < 40 || got > 79 {
		t.Errorf("%d columns, want a line that is for 80: %q", got, out.String())
	}
}

func TestUpdateCopies(t *testing.T) {
	t.Parallel()
	s := plain(func(s *Snapshot) { s.Outcomes = map[events.Outcome]int{events.Pushed: 1} })
	got := shown(Options{Terminal: true, Width: func() int { return 200 }}, []step{
		{0, func(d *Display) { d.Update(s) }}, {1, func(*Display) { s.Outcomes[events.Pushed] = 2 }}, closing(2),
	})
	if strings.Contains(got, "pushed 2") {
		t.Errorf("the display shows what the caller changed later: %q", got)
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64<<10)
	for what, test := range map[string]struct {
		written []string
		before  string // Close
		after   string
	}{
		"a line waits for its end":   {[]string{"a", "b", "\nc"}, "ab\n", "ab\nc\n"},
		"lines at once":              {[]string{"a\nb\r\n\nc\n"}, "a\nb\n\nc\n", "a\nb\n\nc\n"},
		"characters broken in two":   {[]string{"\xe6\xb6", "\x88\n"}, "消\n", "消\n"},
		"nothing":                    {[]string{""}, "", ""},
		"64 KiB wait":                {[]string{long}, "", long + "\n"},
		"what is longer is a line":   {[]string{long, "y", "z\n"}, long + "y\nz\n", long + "y\nz\n"},
		"control characters are not": {[]string{"a\x1b[2Jb\n"}, "a[2Jb\n", "a[2Jb\n"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			d := New(&out, Options{})
			for _, text := range test.written {
				if n, err := d.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			if diff := cmp.Diff(test.before, out.String()); diff != "" {
				t.Errorf("before Close, -want +got:\n%s", diff)
			}
			d.Close()
			if diff := cmp.Diff(test.after, out.String()); diff != "" {
				t.Errorf("after Close, -want +got:\n%s", diff)
			}
		})
	}
}

// TestTogether: writers, Say and Update at the same time keep their lines whole.
func TestTogether(t *testing.T) {
	t.Parallel()
	screen := progresstest.New(60, 10)
	d := New(screen, Options{Terminal: true, Width: func() int { return 60 }})
	const writers, each = 4, 200
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				d.Update(Snapshot{Total: each, Done: i, Note: fmt.Sprint(w, i)})
				fmt.Fprintf(d, "writer %d line %d\n", w, i)
				d.Say("said by %d: %d", w, i)
			}
		})
	}
	all.Wait()
	d.Close()
	count := make(map[string]int)
	for _, line := range screen.All() {
		count[line]++
	}
	for w := range writers {
		for i := range each {
			for _, line := range []string{fmt.Sprintf("writer %d line %d", w, i), fmt.Sprintf("said by %d: %d", w, i)} {
				if count[line] != 1 {
					t.Fatalf("%q is there %d times", line, count[line])
				}
			}
		}
	}
	if got := len(screen.All()); got != 2*writers*each+1 {
		t.Errorf("%d lines, want one for each and the last state", got)
	}
}

func environment(of map[string]string) func(string) string {
	return func(name string) string { return of[name] }
}

func TestDetectWithoutTerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, w := range []interface{ Write([]byte) (int, error) }{file, new(bytes.Buffer), nil} {
		o := Detect(w, environment(map[string]string{"TERM": "xterm", "COLUMNS": "50"}))
		if o.Terminal || o.Color {
			t.Errorf("%T: %+v, want neither terminal nor colour", w, o)
		}
	}
}

func TestDetectLocale(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"none":                           {nil, false},
		"LANG":                           {map[string]string{"LANG": "zh_CN.UTF-8"}, true},
		"in small letters":               {map[string]string{"LANG": "de_DE.utf8"}, true},
		"another set":                    {map[string]string{"LANG": "zh_CN.GBK"}, false},
		"LC_CTYPE before LANG":           {map[string]string{"LANG": "C.UTF-8", "LC_CTYPE": "C"}, false},
		"LC_ALL before LC_CTYPE":         {map[string]string{"LC_ALL": "C.UTF-8", "LC_CTYPE": "C"}, true},
		"what is empty is not there":     {map[string]string{"LC_ALL": "", "LC_CTYPE": "", "LANG": "C.UTF-8"}, true},
		"C":                              {map[string]string{"LC_ALL": "C", "LANG": "C.UTF-8"}, false},
		"a modifier behind the set":      {map[string]string{"LANG": "de_DE.UTF-8@euro"}, true},
		"LC_MESSAGES has nothing to say": {map[string]string{"LC_MESSAGES": "C.UTF-8"}, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if got := Detect(nil, environment(test.env)).Unicode; got != test.want {
				t.Errorf("Unicode = %v", got)
			}
		})
	}
}
