// Package progresstest shows to tests what is on a terminal: a small emulator, and
// commands that run under a pseudo-terminal. For tests only.
package progresstest

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Screen is a terminal's screen. It knows carriage return, line feed (which also
// returns, as behind the ONLCR of a tty), backspace, tab and the sequences ESC[K,
// ESC[J (also with 0 and 2) and ESC[…m; other sequences change nothing. Every other
// character takes one column, and the last column wraps when one more comes, as
// VT100 and xterm do. Safe for concurrent use.
type Screen struct {
	mu            sync.Mutex
	width, height int
	rows          []row // those above the screen first
	x, y          int   // y counts from the first of rows; x == width: the next wraps
	rest          []byte
	escapes       map[string]bool
}

type row struct {
	text []rune
	on   bool // goes on in the next row
}

// New returns an empty screen of so many columns and lines, each 1 at least.
func New(width, height int) *Screen {
	return &Screen{width: max(width, 1), height: max(height, 1), rows: make([]row, 1), escapes: make(map[string]bool)}
}

var sequence = regexp.MustCompile(`^\x1b\[[0-?]*[ -/]*[@-~]`) // ECMA-48, 5.4

// Write takes what a program wrote, broken anywhere. There are no errors.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, p...)
	for len(s.rest) > 0 {
		n := 1
		if s.rest[0] == '\x1b' {
			if n = len(sequence.Find(s.rest)); n == 0 {
				break
			}
			s.escape(string(s.rest[:n]))
		} else {
			if !utf8.FullRune(s.rest) {
				break
			}
			var r rune
			r, n = utf8.DecodeRune(s.rest)
			s.put(r)
		}
		s.rest = s.rest[n:]
	}
	return len(p), nil
}

func (s *Screen) put(r rune) {
	switch {
	case r == '\r':
		s.x = 0
	case r == '\n':
		s.feed(false)
	case r == '\b':
		s.x = max(min(s.x, s.width-1)-1, 0)
	case r == '\t':
		s.x = min(s.x/8*8+8, s.width-1)
	case r >= ' ' && r != 0x7f:
		if s.x == s.width {
			s.feed(true)
		}
		line := &s.rows[s.y].text
		for len(*line) <= s.x {
			*line = append(*line, ' ')
		}
		(*line)[s.x] = r
		s.x++
	}
}

func (s *Screen) feed(on bool) {
	s.rows[s.y].on = on
	s.x, s.y = 0, s.y+1
	if s.y == len(s.rows) {
		s.rows = append(s.rows, row{})
	}
}

func (s *Screen) escape(text string) {
	s.escapes[text] = true
	here := &s.rows[s.y]
	switch text {
	case "\x1b[K", "\x1b[0K":
		here.text = here.text[:min(s.x, len(here.text))]
	case "\x1b[2K":
		here.text = nil
	case "\x1b[J", "\x1b[0J":
		here.text, here.on = here.text[:min(s.x, len(here.text))], false
		s.rows = s.rows[:s.y+1]
	case "\x1b[2J":
		for i := s.top(); i < len(s.rows); i++ {
			s.rows[i] = row{}
		}
	}
}

// Resize gives the screen other columns and lines. With reflow lines are broken
// anew, and the cursor stays at its character, as VTE, kitty and tmux do; without,
// what is too wide is cut off, as xterm does.
func (s *Screen) Resize(width, height int, reflow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width, s.height = max(width, 1), max(height, 1)
	if !reflow {
		for i, r := range s.rows {
			s.rows[i].text = r.text[:min(len(r.text), s.width)]
		}
		s.x = min(s.x, s.width-1)
		return
	}
	old, x, y := s.rows, s.x, s.y
	s.rows = nil
	var line []rune
	for i, r := range old {
		at := -1 // the cursor, in line
		if i == y {
			at = len(line) + x
		}
		line = append(line, r.text...)
		if at >= 0 {
			s.x, s.y = at%s.width, len(s.rows)+at/s.width
		}
		if r.on {
			continue
		}
		for len(line) > s.width {
			s.rows = append(s.rows, row{slices.Clone(line[:s.width]), true})
			line = line[s.width:]
		}
		s.rows = append(s.rows, row{line, false})
		line = nil
	}
	for s.y >= len(s.rows) {
		s.rows = append(s.rows, row{})
	}
}

func (s *Screen) top() int { return max(len(s.rows)-s.height, 0) }

// Lines returns what is on the screen, without the spaces at the ends of lines and
// without the empty lines at its end.
func (s *Screen) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return texts(s.rows[s.top():])
}

// All is Lines with what has scrolled off before.
func (s *Screen) All() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return texts(s.rows)
}

func texts(rows []row) (lines []string) {
	for _, r := range rows {
		lines = append(lines, strings.TrimRight(string(r.text), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Cursor returns where the next character goes: its column, and its line in what
// All returns, both from 0.
func (s *Screen) Cursor() (column, line int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.x, s.y
}

// Escapes returns the different sequences that came, sorted and quoted as Go does.
func (s *Screen) Escapes() (quoted []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range slices.Sorted(maps.Keys(s.escapes)) {
		quoted = append(quoted, strconv.Quote(e))
	}
	return quoted
}
