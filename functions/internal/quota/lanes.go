package quota

import (
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// priorities names the lanes, most urgent first.
var priorities = [...]events.Priority{events.PriorityHuman, events.PriorityAlert, events.PriorityBulk}

// contested gives each of ten slots that several lanes wait for to one of them:
// bulk gets at least one and alert two, spread so that neither waits long. A
// lane that is empty leaves its slot to the most urgent one.
var contested = [...]int{0, 1, 0, 0, 2, 0, 1, 0, 0, 0}

// waiter is one caller of Turn.
type waiter struct {
	lane     int
	deadline time.Time     // zero: none
	done     chan struct{} // closed when the waiter has its turn, or err
	err      error
}

// lanes queues waiters: first come, first served within a lane.
type lanes struct {
	queue [len(priorities)][]*waiter
	turn  int // index into contested
}

// laneOf is the alert lane for everything that has none of its own.
func laneOf(p events.Priority) int {
	if i := slices.Index(priorities[:], p); i >= 0 {
		return i
	}
	return 1
}

func (l *lanes) push(w *waiter) { l.queue[w.lane] = append(l.queue[w.lane], w) }

// remove reports whether the waiter was still waiting.
func (l *lanes) remove(w *waiter) bool {
	q := &l.queue[w.lane]
	i := slices.Index(*q, w)
	if i >= 0 {
		*q = slices.Delete(*q, i, i+1)
	}
	return i >= 0
}

// removeBefore removes the waiters whose deadline comes before t.
func (l *lanes) removeBefore(t time.Time) (late []*waiter) {
	for i := range l.queue {
		l.queue[i] = slices.DeleteFunc(l.queue[i], func(w *waiter) bool {
			isLate := !w.deadline.IsZero() && w.deadline.Before(t)
			if isLate {
				late = append(late, w)
			}
			return isLate
		})
	}
	return late
}

// pop removes the waiter whose turn it is; nil when nobody waits.
func (l *lanes) pop() *waiter {
	var waiting []int
	for i, q := range l.queue {
		if len(q) > 0 {
			waiting = append(waiting, i)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	lane := waiting[0]
	if len(waiting) > 1 {
		if due := contested[l.turn]; slices.Contains(waiting, due) {
			lane = due
		}
		l.turn = (l.turn + 1) % len(contested)
	}
	w := l.queue[lane][0]
	l.remove(w)
	return w
}

func (l *lanes) empty() bool {
	return !slices.ContainsFunc(l.queue[:], func(q []*waiter) bool { return len(q) > 0 })
}

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
