package quota

import (
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Shares says how a quota is being used, for an operator.
type Shares struct {
	// LastMinute and ThisMinute count the slots booked, by lane, in the last
	// full minute of the store's clock and in the one under way. Every lane is
	// there. A slot given back and booked again counts twice.
	LastMinute map[events.Priority]int64 `json:"lastMinute"`
	ThisMinute map[events.Priority]int64 `json:"thisMinute"`
	// SpacingMs is the time between two slots, in milliseconds.
	SpacingMs float64 `json:"spacingMs"`
	// NextMs is [Outlook].Next in milliseconds.
	NextMs int64 `json:"nextMs"`
	// Closed is [Outlook].Closed.
	Closed bool `json:"closed"`
}

// counts are slots by lane, in the order of priorities.
type counts [len(priorities)]int64

func newShares(o Outlook, last, this counts) Shares {
	s := Shares{
		LastMinute: make(map[events.Priority]int64), ThisMinute: make(map[events.Priority]int64),
		SpacingMs: float64(o.Spacing) / float64(time.Millisecond), NextMs: o.Next.Milliseconds(), Closed: o.Closed,
	}
	for i, lane := range priorities {
		s.LastMinute[lane], s.ThisMinute[lane] = last[i], this[i]
	}
	return s
}

// tally counts slots by minute.
type tally struct {
	minute     time.Duration
	last, this counts
}

// at returns the counts of the minute that now is in.
func (t *tally) at(now time.Duration) *counts {
	if minute := now.Truncate(time.Minute); minute != t.minute {
		t.last = counts{}
		if minute == t.minute+time.Minute {
			t.last = t.this
		}
		t.minute, t.this = minute, counts{}
	}
	return &t.this
}
