package run

import (
	"math"
	"time"
)

// window says how many requests may be under way at once. The function gives out the
// slots of the quota; so many wait for theirs as two seconds of the quota serve, and
// beside them, by Little's law, as many are being pushed as the quota starts while
// one push takes. So the quota is in use to the full however slow the listeners are,
// what costs no push (duplicates) passes at once, and after an interrupt two seconds'
// worth of pushes follow and no more.
//
// How long a push takes shows only while nobody waits in line, that is while pushes
// come slower than the quota allows: then it is the shortest time to an answer. While
// they come at the quota's pace, the estimate shrinks slowly, until it shows again.
// Where others use much of the quota, that looks like slow pushes: most bounds it.
type window struct {
	qps  float64
	most int

	push time.Duration // the estimate
	// Of the answers since the last estimate:
	since    time.Time
	n        int
	shortest time.Duration
}

// waiting is how much of the quota waits in line at the function.
const waiting = 2 * time.Second

// pushed notes that a push that began then was answered now.
func (w *window) pushed(began, now time.Time) {
	if w.since.IsZero() {
		w.since = began
	}
	if took := now.Sub(began); w.n == 0 || took < w.shortest {
		w.shortest = took
	}
	if w.n++; w.n < w.size() {
		return
	}
	if rate := float64(w.n) / now.Sub(w.since).Seconds(); rate < 0.9*w.qps {
		w.push = w.shortest
	} else {
		w.push = min(w.push*9/10, w.shortest)
	}
	w.since, w.n = now, 0
}

// size is at least 2 and at most w.most.
func (w *window) size() int {
	return min(w.most, max(2, int(math.Ceil(w.qps*(waiting+w.push).Seconds()))))
}
