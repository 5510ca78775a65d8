package progress

import "time"

const tick, ticks = 100 * time.Millisecond, 100 // 10 s

// Rate counts how many a second there were lately. The zero Rate is ready and never
// grows. A clock that goes back stands still. Not safe for concurrent use.
type Rate struct {
	begun, now time.Time
	counts     [ticks]int // by tick since begun, modulo ticks
	counted    bool
}

// Add counts n. The first call starts the meter: Add(0, start) when work begins.
func (r *Rate) Add(n int, at time.Time) {
	r.counts[r.advance(at)%ticks] += n
	r.counted = r.counted || n > 0
}

// PerSecond is the mean of the last 10 seconds, or of the meter's age when that is
// less, but of 1 second at least.
func (r *Rate) PerSecond(now time.Time) float64 {
	oldest := max(r.advance(now)-ticks+1, 0)
	sum := 0
	for _, n := range r.counts {
		sum += n
	}
	return float64(sum) / max(r.now.Sub(r.begun)-time.Duration(oldest)*tick, time.Second).Seconds()
}

// ETA is how long left more will take by the recent rate, or by the quota (a second;
// 0: not known) until something was counted and the meter is 2 seconds old. It is 0
// when nothing is left or it is not known, and 1000 hours at most.
func (r *Rate) ETA(left int, quota float64, now time.Time) time.Duration {
	perSecond := r.PerSecond(now)
	if quota > 0 && (!r.counted || r.now.Sub(r.begun) < 2*time.Second) {
		perSecond = quota
	}
	if left <= 0 || !(perSecond > 0) { // nor a number
		return 0
	}
	return time.Duration(min(float64(left)/perSecond, 3.6e6) * float64(time.Second))
}

// advance forgets what the window leaves on its way to now, and returns the tick.
func (r *Rate) advance(now time.Time) int {
	if r.begun.IsZero() {
		r.begun, r.now = now, now
	}
	before := int(r.now.Sub(r.begun) / tick)
	if now.After(r.now) {
		r.now = now
	}
	last := int(r.now.Sub(r.begun) / tick)
	for i := range min(last-before, ticks) {
		r.counts[(before+1+i)%ticks] = 0
	}
	return last
}
