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
