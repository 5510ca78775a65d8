package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

// Snapshot is the state of the work. What is not above 0 is not shown, but for
// Total and Done; nor are outcomes that package events does not have.
type Snapshot struct {
	Total, Done, InFlight, Waiting int // Waiting: parked at the function
	Outcomes                       map[events.Outcome]int
	HandedOver                     int           // to a queue: no outcome will be seen here
	PerSecond, Quota               float64       // pushes a second: lately, and allowed; Quota 0: not known
	Elapsed, ETA                   time.Duration // ETA 0: not known
	// Note says what holds it up. Control characters are left out, "?" stands for
	// what is not ASCII and may be two columns wide.
	Note string
}

// part is one piece of the line. That with the highest drop goes first.
type part struct {
	drop      int
	text, sgr string
}

const (
	gap                 = "  "
	bar, minBar, maxBar = 12, 8, 30 // its drop, its columns
)

// line is the state in at most limit columns. chars are those of the bar, one for
// what is done and one for what is left; empty: no bar.
func (s Snapshot) line(limit int, chars string, color bool) string {
	parts := s.parts(limit, chars)
	for len(parts) > 0 && width(parts) > limit {
		last := slices.MaxFunc(parts, func(a, b part) int { return a.drop - b.drop })
		parts = slices.DeleteFunc(parts, func(p part) bool { return p == last })
	}
	free := limit - width(parts)
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.text
		if p.drop == bar {
			texts[i] = s.bar(chars, min(minBar+free, maxBar))
		}
		if p.sgr != "" && color {
			texts[i] = p.sgr + p.text + "\x1b[0m"
		}
	}
	return strings.Join(texts, gap)
}

func width(parts []part) (columns int) {
	for _, p := range parts {
		columns += utf8.RuneCountInString(p.text) + len(gap)
	}
	return max(columns-len(gap), 0)
}

// parts has the line from left to right.
func (s Snapshot) parts(limit int, chars string) (parts []part) {
	add := func(drop int, shown bool, format string, args ...any) {
		if shown {
			parts = append(parts, part{drop: drop, text: fmt.Sprintf(format, args...)})
		}
	}
	outcomes := func(drop int, sgr string, all ...events.Outcome) {
		for i, o := range all {
			if n := s.Outcomes[o]; n > 0 {
				parts = append(parts, part{drop + i, fmt.Sprintf("%s %d", o, n), sgr})
			}
		}
	}
	add(0, true, "%3d%%", int(100*s.done()))
	add(bar, chars != "", "%s", s.bar(chars, minBar))
	add(1, true, "%d/%d", max(s.Done, 0), max(s.Total, 0))
	outcomes(10, "", events.Pushed)
	outcomes(3, "\x1b[31m", events.Unknown, events.Failed)
	outcomes(5, "\x1b[33m", events.Abandoned, events.Rejected, events.Expired)
	outcomes(13, "", events.Duplicate, events.Cancelled, events.Simulated)
	add(16, s.HandedOver > 0, "handed over %d", s.HandedOver)
	add(17, s.InFlight > 0, "in flight %d", s.InFlight)
	add(18, s.Waiting > 0, "waiting %d", s.Waiting)
	add(9, s.PerSecond > 0 && s.PerSecond < 1e6, "%.1f/s", s.PerSecond)
	share := 100 * s.PerSecond / s.Quota
	add(11, s.Quota > 0 && share > 0 && share < 1e6, "%.0f%% of quota", share)
	add(19, s.Elapsed > 0, "%v", seconds(s.Elapsed))
	add(8, s.ETA > 0, "ETA %v", seconds(s.ETA))
	note := ascii(s.Note, limit/2)
	add(2, note != "", "%s", note)
	return parts
}

// done is from 0 to 1, and below 1 until all is.
func (s Snapshot) done() float64 {
	if s.Done >= s.Total {
		return 1
	}
	return min(max(float64(s.Done)/float64(s.Total), 0), 0.999)
}

func (s Snapshot) bar(chars string, columns int) string {
	done, left := chars[:len(chars)/2], chars[len(chars)/2:]
	n := int(s.done() * float64(columns))
	return strings.Repeat(done, n) + strings.Repeat(left, columns-n)
}

// seconds are whole, and one at least: 0s would be the end.
func seconds(d time.Duration) time.Duration { return max(d.Round(time.Second), time.Second) }

// ascii is text in so many columns.
func ascii(text string, columns int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return -1
		case r > unicode.MaxASCII:
			return '?'
		}
		return r
	}, text)
	if len(text) > columns {
		return text[:max(columns-3, 0)] + "..."[:min(columns, 3)]
	}
	return text
}
