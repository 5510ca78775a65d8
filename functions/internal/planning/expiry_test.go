package planning_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

// TestDelayedOrigins live from their delivery on, which their dead letters do not
// say: they are sorted by that, and sent for as long as they live.
func TestDelayedOrigins(t *testing.T) {
	type origin struct{ made, stored time.Duration }
	soon := origin{70 * time.Hour, 70 * time.Hour}
	for name, test := range map[string]struct {
		origins []origin
		limit   int
		want    []int
	}{
		"one that looks expired":      {[]origin{{80 * time.Hour, 20 * time.Hour}, soon}, 1, []int{1}},
		"one that looks soon expired": {[]origin{{71*time.Hour + 30*time.Minute, 20 * time.Hour}, soon}, 1, []int{1}},
		"all of them":                 {[]origin{{80 * time.Hour, 20 * time.Hour}, soon, {60 * time.Hour, 30 * time.Hour}, {47 * time.Hour, 47 * time.Hour}}, 9, []int{1, 3, 2, 0}},
		"many before the soonest":     {append(slices.Repeat([]origin{{80 * time.Hour, 20 * time.Hour}}, 70), soon), 2, []int{70, 0}},
		"not delayed":                 {[]origin{{71*time.Hour + 30*time.Minute, 71*time.Hour + 30*time.Minute}, soon}, 9, []int{1}}, // the sink comes back too late
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.Limit = test.limit })
			for n, o := range test.origins {
				h.bury(n, o.made, 10*time.Hour)
				h.store(n, o.stored)
			}
			h.requested.refuse(errAway)
			h.do(t, alarm(events.DeadLetters))
			time.Sleep(time.Hour)
			h.requested.refuse(nil)
			h.sweep(t)
			var got []int
			for _, id := range ids(h.requested.requests(t)) {
				got = append(got, number(id))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: asked for %v, want %v", name, got, test.want)
			}
		})
	}
}

// TestWhatLooksYoungIsNotLookedUp: that would cost a call a message.
func TestWhatLooksYoungIsNotLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.Limit = 40 })
		for n := range 300 {
			h.bury(n, 60*time.Hour-time.Duration(n)*time.Second, time.Hour)
			h.store(n, 60*time.Hour-time.Duration(n)*time.Second-5*time.Millisecond)
			h.bury(1000+n, 40*time.Hour, time.Hour)
		}
		h.report(t, alarm(events.DeadLetters))
		if p := h.results.plans(t)[0]; p.Count != 40 || p.Calls[planning.OpByID] > 42 {
			t.Errorf("%d entries, calls %v", p.Count, p.Calls)
		}
	})
}

// TestOldestCopyTellsTheAge: a consumer that made a dead letter anew gave it another.
func TestOldestCopyTellsTheAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 10*time.Hour, 9*time.Hour)
		h.bury(2, 40*time.Hour, 9*time.Hour)
		h.bury(1, 45*time.Hour, time.Hour)
		h.report(t, alarm(events.DeadLetters))
		if got := ids(h.requested.requests(t)); !slices.Equal(got, []string{msgID(1), msgID(2)}) {
			t.Errorf("in the order %v", got)
		}
	})
}

// TestLastMinutesOfLife: what is about to be deleted is looked at as well, and does
// not spoil the reading of the rest.
func TestLastMinutesOfLife(t *testing.T) {
	const life = 72 * time.Hour
	for name, test := range map[string]struct {
		source     events.Selection
		from, to   time.Duration // ago; 0: not given
		old        int           // which have 5 minutes left
		leaves     bool          // they go while they are read
		count      int           // at least
		incomplete bool
		calls      int // at most
	}{
		"dead letters":              {source: events.DeadLetters, old: 1, count: 121, calls: 5},
		"from long ago":             {source: events.DeadLetters, from: 100 * time.Hour, old: 1, count: 121, calls: 5},
		"from later":                {source: events.DeadLetters, from: 60 * time.Hour, old: 1, count: 120, calls: 4},
		"to then":                   {source: events.DeadLetters, to: life - 8*time.Minute, old: 2, count: 2, calls: 1},
		"that go":                   {source: events.DeadLetters, old: 40, leaves: true, count: 160, calls: 5},
		"that go, and are too many": {source: events.DeadLetters, old: 120, leaves: true, count: 120, incomplete: true, calls: 8},
		"not consumed":              {source: events.Unconsumed, old: 1, count: 121, calls: 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.tracks = map[string]string{}
			h.lags = []planning.Lag{{Topic: topic, Messages: int64(120 + test.old)}}
			for n := range 120 + test.old {
				age := 20 * time.Hour
				if n < test.old {
					age = life - 5*time.Minute
				}
				h.bury(n, age+time.Minute, age)
				h.tracks[msgID(n)] = "NOT_CONSUME_YET"
				if test.source == events.Unconsumed {
					h.store(n, age)
				}
			}
			left := test.old
			h.meddle = func(int, planning.Query, *planning.Page) error {
				if test.leaves && left > 0 {
					h.dead, left = h.dead[1:], left-1
				}
				return nil
			}
			plan := events.Plan{Source: test.source, DryRun: true}
			if test.from > 0 {
				plan.From = time.Now().Add(-test.from)
			}
			if test.to > 0 {
				plan.To = time.Now().Add(-test.to)
			}
			h.report(t, person("p", plan))
			p := h.results.plans(t)[0]
			if p.Count < test.count || (p.Incomplete != "") != test.incomplete {
				t.Errorf("%s: %d entries, incomplete %q", name, p.Count, p.Incomplete)
			}
			if n := p.Calls[planning.OpDeadLetters] + p.Calls[planning.OpMessages]; n > test.calls {
				t.Errorf("%s: %d pages read", name, n)
			}
		})
	}
}
