package quota

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// rounding is what the two laws may differ by: one counts whole nanoseconds, the
// other microseconds in floating point.
const rounding = time.Microsecond

var near = cmp.Options{
	cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < rounding }),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".NextMs" },
		cmp.Comparer(func(a, b int64) bool { return a-b <= 1 && b-a <= 1 })),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".SpacingMs" },
		cmp.Comparer(func(a, b float64) bool { return a-b < 2e-6 && b-a < 2e-6 })),
}

// twins are the law in memory and the law in Redis at the same moments.
type twins struct {
	now    time.Duration
	memory *Memory
	redis  *Redis
	open   []Booking
}

func newTwins(w *Wire, key string, qps float64) *twins {
	began := time.Unix(0, 0)
	tw := &twins{}
	tw.memory = NewMemory(qps, func() time.Time { return began.Add(tw.now) })
	w.Now = func() time.Duration { return tw.now }
	tw.redis = NewRedis(w, key, qps)
	return tw
}

// decided is false where rounding decides between a slot and none, or between
// two ways to stagger.
func (tw *twins) decided(within time.Duration) bool {
	l := &tw.memory.law
	at := l.free(tw.now)
	return (at-tw.now-within).Abs() > 2*rounding && (l.tail-at-staggered).Abs() > 2*rounding
}

func (tw *twins) book(t *rapid.T) {
	within := rapid.OneOf(rapid.Just(Horizon), rapid.Just(Horizon), rapid.Just(time.Duration(0)), rapid.Map(rapid.IntRange(-10, 600_000), func(us int) time.Duration {
		return time.Duration(us) * time.Microsecond
	})).Draw(t, "within")
	tw.bookWithin(t, within)
}

func (tw *twins) bookWithin(t *rapid.T, within time.Duration) {
	lane := [...]events.Priority{events.PriorityHuman, "", events.PriorityBulk}[tw.now.Microseconds()%3]
	for !tw.decided(min(within, Horizon)) {
		tw.now += 3 * rounding
		within -= 5 * rounding
	}
	want, wantOutlook, err1 := tw.memory.Book(t.Context(), lane, within)
	got, outlook, err2 := tw.redis.Book(t.Context(), lane, within)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if d := cmp.Diff([]any{want, wantOutlook}, []any{got, outlook}, near); d != "" {
		t.Fatalf("book within %v at %v (-go +lua):\n%s", within, tw.now, d)
	}
	if want.Seq > 0 {
		tw.open = append(tw.open, want)
	}
}

func (tw *twins) report(t *rapid.T) {
	if len(tw.open) == 0 {
		return
	}
	i := rapid.IntRange(0, len(tw.open)-1).Draw(t, "booking")
	tw.reportOne(t, i, rapid.SampledFrom([]pushing.Verdict{
		pushing.Unused, pushing.Accepted, pushing.Accepted, pushing.Accepted, pushing.Throttling, pushing.Throttling, 99,
	}).Draw(t, "verdict"))
}

func (tw *twins) reportOne(t *rapid.T, i int, v pushing.Verdict) {
	b := tw.open[i]
	tw.open = slices.Delete(tw.open, i, i+1)
	var want Outlook
	got := make(chan Outlook, 1)
	tw.memory.Report(b, v, func(o Outlook) { want = o })
	tw.redis.Report(b, v, func(o Outlook) { got <- o })
	tw.redis.scripts.(*Wire).flush()
	if d := cmp.Diff(want, <-got, near); d != "" {
		t.Fatalf("report %+v %v at %v (-go +lua):\n%s", b, v, tw.now, d)
	}
}

// run plays calls in their slots, each answered before the next, of which every
// so many are refused or not made: what the law remembers of a hundred calls.
func (tw *twins) run(t *rapid.T) {
	every := rapid.SampledFrom([]int{1000, 102, 101, 100, 6, 5, 3, 2, 1, 1, 1}).Draw(t, "refused every")
	refused := rapid.SampledFrom([]pushing.Verdict{pushing.Throttling, pushing.Throttling, pushing.Throttling, pushing.Unused}).Draw(t, "as")
	for i := range rapid.SampledFrom([]int{1, 10, 30, 100, 101}).Draw(t, "calls") {
		tw.now = max(tw.now, tw.memory.law.free(tw.now).Round(rounding))
		tw.bookWithin(t, Horizon)
		v := pushing.Accepted
		if (i+1)%every == 0 {
			v = refused
		}
		if n := len(tw.open); n > 0 {
			tw.reportOne(t, n-1, v)
		}
	}
}

// straggle has a refusal answered, a slot given back and its successor refused:
// the law must know that this one is new.
func (tw *twins) straggle(t *rapid.T) {
	had := len(tw.open)
	for range 3 {
		tw.bookWithin(t, Horizon)
	}
	if len(tw.open) == had+3 {
		tw.reportOne(t, had, pushing.Throttling)
		tw.reportOne(t, had+1, pushing.Unused)
		tw.bookWithin(t, Horizon)
		tw.reportOne(t, len(tw.open)-1, pushing.Throttling)
	}
}

// probe closes the quota where two refusals do, books its first probe, gives it
// back and books it again.
func (tw *twins) probe(t *rapid.T) {
	for _, v := range []pushing.Verdict{pushing.Throttling, pushing.Throttling, pushing.Unused, pushing.Throttling} {
		tw.now = max(tw.now, tw.memory.law.free(tw.now).Round(rounding)+5*rounding)
		tw.bookWithin(t, Horizon)
		tw.reportOne(t, len(tw.open)-1, v)
	}
}

// crowd books at one moment until callers are told to come back in seconds.
func (tw *twins) crowd(t *rapid.T) {
	for range rapid.SampledFrom([]int{5, 20, 45}).Draw(t, "callers") {
		tw.bookWithin(t, Horizon)
	}
}

func (tw *twins) shares(t *rapid.T) {
	want, err1 := tw.memory.Shares(t.Context())
	got, err2 := tw.redis.Shares(t.Context())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if d := cmp.Diff(want, got, near); d != "" {
		t.Fatalf("shares at %v (-go +lua):\n%s", tw.now, d)
	}
}

// TestLawLua: the law in Lua answers whatever the law in Go answers.
func TestLawLua(t *testing.T) {
	t.Parallel()
	w := DialWire(t, redistest.Start(t))
	var quotas atomic.Int64
	var slots, closed, none int
	rapid.Check(t, func(t *rapid.T) {
		qps := rapid.OneOf(rapid.SampledFrom([]float64{.1, 1, 10, 10, 30, 30, 1000, MaxQPS}), rapid.Float64Range(.1, 200)).Draw(t, "qps")
		tw := newTwins(w, fmt.Sprint("twins ", quotas.Add(1)), qps)
		interval := int(tw.memory.law.interval.Microseconds())
		advance := rapid.OneOf(
			rapid.Just(0), rapid.IntRange(0, interval/4), rapid.IntRange(0, 3*interval),
			rapid.IntRange(0, 1_200_000), rapid.SampledFrom([]int{59_000_000, 61_000_000, 599 * interval, 600 * interval}))
		actions := []func(*rapid.T){tw.book, tw.book, tw.book, tw.report, tw.report, tw.shares, tw.run, tw.run, tw.straggle, tw.probe, tw.crowd}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			tw.now += time.Duration(advance.Draw(t, "later")) * time.Microsecond
			before := tw.memory.law.seq
			rapid.SampledFrom(actions).Draw(t, "action")(t)
			switch {
			case tw.memory.law.closedFor > 0:
				closed++
			case tw.memory.law.seq > before:
				slots++
			default:
				none++
			}
		}
	})
	if slots == 0 || closed == 0 || none == 0 {
		t.Errorf("%d steps took a slot, %d took none, %d met a closed quota; want all three", slots, none, closed)
	}
}
