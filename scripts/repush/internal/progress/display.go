// Package progress shows how long work goes on. It is no library of progress bars,
// because the bar is the least of it: rate, share of the quota, outcomes and ETA
// are ours, and a narrow terminal must lose them in a stated order.
package progress

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"
)

// Display shows how long work goes on: on a terminal one line that is redrawn,
// elsewhere plain lines from time to time. It is safe for concurrent use. It waits
// while what it writes to does (Ctrl-S): work that must not wait calls it from a
// goroutine of its own. Errors of writing are ignored.
//
// A terminal's line leaves the last column free. Too long, it loses in this order:
// elapsed, waiting, in flight, handed over, outcomes neither good nor bad, the bar,
// the share of the quota, pushed, the rate, the ETA, bad outcomes (unknown last),
// the note (half the line at most), the counts, the percentage.
type Display struct {
	mu      sync.Mutex
	w       io.Writer
	o       Options
	every   time.Duration // is redrawn at most so often
	last    Snapshot
	drawnAt time.Time
	begun   bool // something was drawn
	stale   bool // last was not
	closed  bool
	rest    []byte // a line without its end
}

// New returns a Display that has drawn nothing yet.
func New(w io.Writer, o Options) *Display {
	every := 10 * time.Second
	if o.Terminal {
		every = 100 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Width == nil {
		o.Width = func() int { return 0 }
	}
	return &Display{w: w, o: o, every: every}
}

// Update takes the state and draws it when it is time, every 10 s, or 10 times a second
// on a terminal; at once when it is the first, has another Note or is the first with all
// done. What is not drawn waits for the next call: a ticker is a good caller. After Close
// it does nothing.
func (d *Display) Update(s Snapshot) {
	s.Outcomes = maps.Clone(s.Outcomes)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	done := s.Done == s.Total && d.last.Done != d.last.Total
	due := !d.begun || done || s.Note != d.last.Note || d.o.Now().Sub(d.drawnAt) >= d.every
	d.stale = d.stale || !d.begun || s.Done != d.last.Done || s.Note != d.last.Note || !maps.Equal(s.Outcomes, d.last.Outcomes)
	d.last = s
	if due {
		d.begun, d.stale, d.drawnAt = true, false, d.o.Now()
		d.draw("")
	}
}

// Say writes a line that stays, above the bar. Control characters are left out, but
// for line ends and tabs. After Close it still writes.
func (d *Display) Say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.say(fmt.Sprintf(format, args...))
}

// Write takes lines as [Display.Say] does, of a child that writes to the same place. A
// line waits for its end, for 64 KiB or for Close. There are no errors.
func (d *Display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rest = append(d.rest, p...)
	d.flush(bytes.LastIndexByte(d.rest, '\n') + 1)
	if len(d.rest) > 64<<10 {
		d.flush(len(d.rest))
	}
	return len(p), nil
}

func (d *Display) flush(n int) {
	if n > 0 {
		d.say(string(d.rest[:n]))
		d.rest = append(d.rest[:0], d.rest[n:]...)
	}
}

// Close leaves the last state as a plain line, without bar and ETA, and the cursor
// in column 1 of the line below. It may be called again.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.flush(len(d.rest))
	d.closed, d.last.ETA = true, 0
	if d.begun && (d.stale || d.o.Terminal) {
		d.draw("")
	}
}

func (d *Display) say(text string) {
	text = strings.TrimSuffix(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text), "\n") + "\n"
	if d.begun && d.o.Terminal && !d.closed {
		d.draw(text)
	} else {
		_, _ = io.WriteString(d.w, text)
	}
}

// draw writes what stays and the state, in one piece. On a terminal the cursor
// waits in column 1: a ^C that is echoed there cannot wrap the line, and when a
// resize has broken the line in two, erasing to the end of the screen (ECMA-48,
// 8.3.39) takes both. Braille is one column wide everywhere, where blocks are two in
// some terminals of East Asia (EastAsianWidth.txt: N, A).
func (d *Display) draw(stays string) {
	limit, chars, end := math.MaxInt, "", "\n"
	if d.o.Terminal {
		stays = "\r\x1b[J" + stays
		if limit = d.o.Width() - 1; limit < 0 {
			limit = 79
		}
		if !d.closed {
			chars, end = "#-", "\r"
		}
		if !d.closed && d.o.Unicode {
			chars = "⣿⣀"
		}
	}
	_, _ = io.WriteString(d.w, stays+d.last.line(limit, chars, d.o.Color)+end)
}

// Options say what is written to.
type Options struct {
	Terminal bool             // it understands \r and the escape that erases
	Width    func() int       // a terminal's columns, asked at each redraw; nil or not above 0: 80
	Color    bool             // SGR colours may be used
	Unicode  bool             // the bar may be of more than # and -
	Now      func() time.Time // nil: time.Now
}

// Detect returns the Options for w, with the environment that getenv reads.
//
//   - A terminal is an *os.File that is one, unless TERM is dumb; not on Windows,
//     where escapes have to be switched on first (SetConsoleMode).
//   - NO_COLOR that is not empty takes the colours away (https://no-color.org).
//   - The locale is the first of LC_ALL, LC_CTYPE and LANG that is not empty
//     (POSIX.1-2017, Base Definitions 8.2).
//   - COLUMNS is the width of a terminal that does not know its own.
func Detect(w io.Writer, getenv func(string) string) Options {
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	o := Options{Unicode: strings.Contains(strings.ReplaceAll(locale, "-", ""), "UTF8")}
	file, ok := w.(*os.File)
	if !ok || runtime.GOOS == "windows" || getenv("TERM") == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return o
	}
	o.Terminal, o.Color = true, getenv("NO_COLOR") == ""
	o.Width = func() int {
		columns, _, _ := term.GetSize(int(file.Fd()))
		if columns <= 0 {
			columns, _ = strconv.Atoi(getenv("COLUMNS"))
		}
		return columns
	}
	return o
}
