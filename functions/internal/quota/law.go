package quota

import (
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// MinQPS and MaxQPS bound the rates that are paced; other rates are treated as
// the nearer of the two (source: design.md section 7, REPUSH_QPS).
const (
	MinQPS = 0.1
	MaxQPS = 100_000
)

const (
	startStretch = 1.02

	// Steps of the spacing, in shares of 1/QPS.
	creep        = 0.0001 // closer per accepted call
	creepDamping = 4      // per remembered refusal
	stepMin      = 0.02   // apart per refusal
	stepQuiet    = 0.015  // the same after many quiet calls
	stepMax      = 0.40

	// Counts of calls.
	soon        = 5   // a refusal fewer calls after the last one doubles the step
	quiet       = 100 // a refusal more calls after the last one takes stepQuiet
	memoryCalls = 600 // how long a refusal damps, at least memoryTime
	remembered  = 16  // refusals that damp

	memoryTime = time.Minute
	closedMin  = time.Second
	closedMax  = 8 * time.Second
	// staggered bounds how long a caller without a slot is kept away so that
	// it does not come back together with the others.
	staggered = 3 * time.Second
	// appointed bounds how far ahead a caller with a slot gets its next place.
	appointed = time.Second
)

// law decides when the calls of one quota go out. It is a value without clock,
// lock or I/O: times are durations since an origin of the holder's choice and
// never run backwards.
type law struct {
	interval time.Duration // 1/QPS
	reach    int64         // bookings in a tenth of a second, at least one

	stretch float64       // the spacing, in intervals
	step    float64       // the last step apart
	next    time.Duration // when the next slot is free
	tail    time.Duration // when the next caller without a slot should try for
	seq     int64         // the last booking
	changed int64         // the last booking before the last step apart

	refusals [remembered]time.Duration // when the last steps apart were made
	steps    int                       // how many there were

	refused int64 // the booking refused last
	run     int64 // how many were refused in a row

	closedFor   time.Duration // zero: open
	closedUntil time.Duration // when the next probe may go
}

func newLaw(qps float64) law {
	if !(qps >= MinQPS) { // also not a number
		qps = MinQPS
	}
	qps = min(qps, MaxQPS)
	return law{interval: time.Duration(float64(time.Second) / qps), reach: max(1, int64(qps/10)), stretch: startStretch}
}

func (l *law) spacing() time.Duration { return time.Duration(l.stretch * float64(l.interval)) }

// outlook sends everybody behind those who were told when to come back: else the
// process that is a millisecond nearer to the store would take every slot.
func (l *law) outlook(now time.Duration) Outlook {
	next := l.free(now)
	if l.crowded(next) {
		next = l.tail
	}
	return Outlook{Next: next - now, Spacing: l.spacing(), Closed: l.closedFor > 0}
}

// crowded: others were told when to come back, later than the next free slot.
// Half a spacing is far from what rounding does to equal times.
func (l *law) crowded(next time.Duration) bool {
	return l.closedFor == 0 && l.tail > next+l.spacing()/2 && l.tail <= next+staggered
}

// appoint keeps the place in line that the outlook gave to who booked last, so
// that of several processes each asks once a slot. Who does not come leaves a
// gap, so the line is kept short.
func (l *law) appoint(now time.Duration) {
	if next := l.free(now); l.crowded(next) && l.tail < next+appointed {
		l.tail += l.spacing()
	}
}

func (l *law) free(now time.Duration) time.Duration {
	if l.closedFor > 0 {
		return max(now, l.next, l.closedUntil)
	}
	return max(now, l.next)
}

// book takes the next slot if it comes within the given time. If not, Seq is
// zero and Wait the time until a slot may be free for this caller.
func (l *law) book(now, within time.Duration) Booking {
	at := l.free(now)
	if at-now > within {
		if within == Horizon { // who asks for less leaves at its deadline
			if l.tail < at || l.tail > at+staggered {
				l.tail = at
			}
			at = l.tail
			l.tail += l.spacing()
		}
		return Booking{Wait: at - now}
	}
	l.seq++
	l.next = at + l.spacing()
	probe := l.closedFor > 0
	if probe {
		// The next probe does not depend on the answer to this one, which may
		// be slow or never come.
		l.closedFor = min(2*l.closedFor, closedMax)
		l.closedUntil = at + l.closedFor
	}
	return Booking{Seq: l.seq, Wait: at - now, At: at, Probe: probe}
}

func (l *law) report(now time.Duration, b Booking, v pushing.Verdict) {
	switch {
	case v == pushing.Unused:
		l.giveBack(b)
	case b.Probe:
		if v == pushing.Accepted {
			l.closedFor, l.run, l.changed = 0, 0, l.seq
		}
	case l.closedFor > 0: // on its way when the quota closed
	case v == pushing.Accepted:
		l.accept(now)
	case v == pushing.Throttling:
		l.refuse(now, b)
	}
}

// giveBack frees a slot if nobody booked after it.
func (l *law) giveBack(b Booking) {
	if b.Seq == 0 || b.Seq != l.seq {
		return
	}
	l.seq--
	l.changed = min(l.changed, l.seq)
	l.next = b.At
	if b.Probe && l.closedFor > 0 {
		l.closedFor, l.closedUntil = l.closedFor/2, b.At
	}
}

func (l *law) accept(now time.Duration) {
	by := creep * max(1, (l.stretch-1)/stepMin)
	if n := l.recent(now); n > 0 {
		by = creep / (1 + creepDamping*float64(n))
	}
	l.stretch = max(1, l.stretch-by)
}

// recent counts the refusals that still damp.
func (l *law) recent(now time.Duration) (n int) {
	for _, at := range l.refusals[:min(l.steps, remembered)] {
		if now-at < max(memoryTime, memoryCalls*l.interval) {
			n++
		}
	}
	return n
}

func (l *law) refuse(now time.Duration, b Booking) {
	if apart := b.Seq - l.refused; apart > l.reach || -apart > l.reach {
		l.run = 0
	}
	l.run++
	l.refused = b.Seq
	if l.run >= 2*l.reach {
		l.closedFor, l.closedUntil = closedMin, now+closedMin
		return
	}
	since := b.Seq - l.changed
	switch {
	case since <= 0: // the step that answers this refusal has been made
		return
	case since < soon:
		l.step = min(max(2*l.step, stepMin), stepMax)
	case since > quiet:
		l.step = stepQuiet
	default:
		l.step = stepMin
	}
	l.stretch += l.step
	l.changed = l.seq
	l.refusals[l.steps%remembered] = now
	l.steps++
}
