package planning_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

// lagging is a group that has consumed up to two hours ago, and has four messages
// left of the topic.
func lagging(t *testing.T, push bool) *house {
	h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.PushLag = push })
	for n := 1; n <= 8; n++ {
		h.store(n, 2*time.Hour-time.Duration(n)*time.Minute)
	}
	h.store(9, 20*time.Hour) // long before
	h.lags = []planning.Lag{{Topic: topic, Messages: 4, Consumed: time.Now().Add(-2 * time.Hour)}}
	h.tracks = map[string]string{
		msgID(1): "NOT_CONSUME_YET", msgID(2): "NOT_ONLINE", msgID(3): "UNKNOWN", msgID(4): "CONSUMED", msgID(5): "CONSUMED_BUT_FILTERED",
		msgID(6): "", msgID(7): "NOT_CONSUME_YET", msgID(9): "NOT_CONSUME_YET",
	}
	h.decide(t, 7, 1, events.Pushed)
	return h
}

// TestUnconsumed: the trace decides; an alert about lag ends at the manifest
// unless the operator wants pushes, which carry the warning.
func TestUnconsumed(t *testing.T) {
	for _, push := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := lagging(t, push)
			h.setOffline(!push) // nobody is needed for a manifest
			got := h.report(t, alarm(events.Unconsumed))
			p := h.results.plans(t)[0]
			want := map[string]int{"consumed": 2, "consumed but filtered": 1, "the group does not subscribe": 1, "pushed before": 1}
			if diff := cmp.Diff(want, leftOut(p)); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			if p.Count != 3 || p.Incomplete != "" || p.DryRun == push {
				t.Errorf("plan = %+v", p)
			}
			requests := h.requested.requests(t)
			if !push {
				if len(requests) != 0 || got.Code != planning.CodeLag || got.Requests != 0 {
					t.Errorf("%d requests, report %+v", len(requests), got)
				}
				return
			}
			if diff := cmp.Diff([]string{msgID(1), msgID(2), msgID(3)}, ids(requests)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			for _, r := range requests {
				if !r.Unconsumed {
					t.Errorf("%s: without the warning that the queue delivers it as well", r.MsgID)
				}
			}
		})
	}
}

// TestLagThatIsNotFound: the group says that it has more left than there is.
func TestLagThatIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagging(t, false)
		h.lags[0].Messages = 9
		h.lags = append(h.lags, planning.Lag{Topic: "payments", Messages: 5})
		h.report(t, alarm(events.Unconsumed))
		p := h.results.plans(t)[0]
		for _, want := range []string{"has 9 messages of topic orders left, and 8 were found", "5 messages of topic payments are left: it is not in REPUSH_ALLOW"} {
			if !strings.Contains(p.Incomplete, want) {
				t.Errorf("incomplete = %q, want %q", p.Incomplete, want)
			}
		}
	})
}

// TestNothingToDoIsNotWhole: where no message is in the list, the return value and the
// log, too, say what was left out, and that there may be more.
func TestNothingToDoIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.lags = []planning.Lag{{Topic: "payments", Messages: 500}}
		h.bury(1, 100*time.Hour, time.Hour)
		for source, test := range map[events.Selection]struct {
			incomplete, message string
			leftOut             int
		}{
			events.Unconsumed:  {"500 messages of topic payments are left: it is not in REPUSH_ALLOW", "there may be more", 0},
			events.DeadLetters: {"", "no message needs a push", 1},
		} {
			var line planning.Line
			h.Log = func(l planning.Line) { line = l }
			got := h.report(t, alarm(source))
			if got.Manifest == nil || got.Manifest.Incomplete != test.incomplete || len(got.Manifest.LeftOut) != test.leftOut || got.Manifest.Count != 0 {
				t.Errorf("%s: manifest = %+v", source, got.Manifest)
			}
			if diff := cmp.Diff(got, line.Report); diff != "" || got.Code != planning.CodeNothing || !strings.Contains(got.Message, test.message) {
				t.Errorf("%s: message %q, log (-returned +logged):\n%s", source, got.Message, diff)
			}
		}
	})
}

// TestHealedMeanwhile: what was consumed between the manifest and its turn is not
// asked for.
func TestHealedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagging(t, true)
		h.requested.refuse(errAway)
		if got := h.do(t, alarm(events.Unconsumed)); !got.Parked || got.Code != planning.CodeSink {
			t.Fatalf("the sink is away: %+v", got)
		}
		h.tracks[msgID(2)] = "CONSUMED"
		h.decide(t, 3, 1, events.Pushed) // by somebody else
		h.requested.refuse(nil)
		time.Sleep(2 * time.Minute)
		if s := h.sweep(t); s.Closed != 1 {
			t.Errorf("sweep = %+v", s)
		}
		if got := ids(h.requested.requests(t)); !slices.Equal(got, []string{msgID(1)}) {
			t.Errorf("requests = %v", got)
		}
	})
}

// TestExpiredMeanwhile: nor what expired.
func TestExpiredMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 70*time.Hour, time.Hour)
		h.bury(2, 20*time.Hour, time.Hour)
		h.requested.refuse(errAway)
		h.report(t, alarm(events.DeadLetters))
		time.Sleep(3 * time.Hour)
		h.requested.refuse(nil)
		h.sweep(t)
		if got := ids(h.requested.requests(t)); !slices.Equal(got, []string{msgID(2)}) {
			t.Errorf("requests = %v", got)
		}
	})
}

// TestNamed: what a person names is looked up; what was pushed before needs the
// word again, which gives the next generation.
func TestNamed(t *testing.T) {
	for name, test := range map[string]struct {
		plan        events.Plan
		from, to    time.Duration // ago
		want        []string
		leftOut     map[string]int
		incomplete  string
		generations []int
	}{
		"ids": {
			plan: events.Plan{Source: events.ByIDs, IDs: []string{msgID(2), msgID(1), msgID(3), msgID(4), msgID(77)}},
			want: []string{msgID(1), msgID(2)}, generations: []int{1, 1},
			leftOut: map[string]int{"pushed before": 1, "origin expired": 1, "no such message in this topic": 1},
		},
		"ids, again": {
			plan: events.Plan{Source: events.ByIDs, IDs: []string{msgID(3)}, Again: true},
			want: []string{msgID(3)}, generations: []int{2}, leftOut: map[string]int{},
		},
		"ids, of a time": {
			plan: events.Plan{Source: events.ByIDs, IDs: []string{msgID(1), msgID(2), msgID(0x12)}},
			from: 19*time.Hour + time.Minute, to: 18 * time.Hour,
			want: []string{msgID(2)}, generations: []int{1}, leftOut: map[string]int{"stored before from, or after to": 2},
		},
		"keys, of a time": {
			plan: events.Plan{Source: events.ByKeys, Keys: []string{"1", "2"}}, from: 19*time.Hour + time.Minute,
			want: []string{msgID(2), msgID(0x12)}, generations: []int{1, 1}, leftOut: map[string]int{"stored before from, or after to": 1},
		},
		"keys": {
			plan: events.Plan{Source: events.ByKeys, Keys: []string{"1", "2", "12", "nothing"}},
			want: []string{msgID(1), msgID(2), msgID(0x12)}, generations: []int{1, 1, 1}, leftOut: map[string]int{},
			incomplete: `no message of topic orders has the key "nothing"`,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.store(1, 20*time.Hour)
			h.store(2, 19*time.Hour)
			h.store(3, 18*time.Hour)
			h.store(4, 80*time.Hour)
			h.store(0x12, 10*time.Hour)
			h.decide(t, 3, 1, events.Pushed)
			test.plan.Topic = topic
			if test.from > 0 {
				test.plan.From = time.Now().Add(-test.from)
			}
			if test.to > 0 {
				test.plan.To = time.Now().Add(-test.to)
			}
			got := h.report(t, person("p", test.plan))
			p := h.results.plans(t)[0]
			requests := h.requested.requests(t)
			if diff := cmp.Diff(test.want, ids(requests)); diff != "" || got.Requests != len(test.want) {
				t.Errorf("%s: requests (-want +got):\n%s", name, diff)
			}
			if diff := cmp.Diff(test.leftOut, leftOut(p)); diff != "" || p.Incomplete != test.incomplete {
				t.Errorf("%s: incomplete %q, left out (-want +got):\n%s", name, p.Incomplete, diff)
			}
			for i, r := range requests {
				if r.Generation != test.generations[i] || r.Priority != events.PriorityBulk {
					t.Errorf("%s: %+v", name, r)
				}
			}
		})
	}
}

// TestAgainIsForPersons: nobody else's again counts, should it come so far.
func TestAgainIsForPersons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.store(3, 18*time.Hour)
		h.decide(t, 3, 1, events.Pushed)
		d := person("p", events.Plan{Source: events.ByIDs, Topic: topic, IDs: []string{msgID(3)}, Again: true})
		d.Human = false
		if got := h.report(t, d); got.Requests != 0 {
			t.Errorf("report = %+v", got)
		}
	})
}

// TestRefusals: what cannot be right is answered, and told of where somebody
// waits for an answer.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		d := person("p", events.Plan{Source: events.DeadLetters})
		d.Plan.GroupID = "CID_x"
		for range 2 {
			if got := h.do(t, d); got.Outcome != events.Rejected || got.Code != planning.CodeNotAllowed || !strings.Contains(got.Message, instance+"/CID_x/TOPIC ") {
				t.Errorf("not allowed: %+v", got)
			}
		}
		h.results.mu.Lock()
		sent := slices.Clone(h.results.sent)
		h.results.mu.Unlock()
		if len(sent) != 2 || sent[0].ID != sent[1].ID {
			t.Errorf("%d events, want the same one twice", len(sent))
		}
		a := alarm(events.DeadLetters)
		a.Plan.Topic = "payments"
		if got := h.do(t, a); got.Outcome != events.Rejected || !strings.Contains(got.Message, instance+"/"+consumer+"/payments ") {
			t.Errorf("an alert about a group that is not allowed: %+v", got)
		}
		if len(h.calls) != 0 || len(h.results.sent) != 2 {
			t.Errorf("calls %v, %d events", h.calls, len(h.results.sent))
		}
	})
}

// TestRedeliveredPlan: a request for a plan is answered as before.
func TestRedeliveredPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		d := person("p", events.Plan{Source: events.DeadLetters})
		first := h.report(t, d)
		time.Sleep(2 * time.Hour)
		calls := h.calls[planning.OpDeadLetters]
		if diff := cmp.Diff(first, h.report(t, d)); diff != "" || first.Requests != 1 {
			t.Errorf("again (-first +again):\n%s", diff)
		}
		if h.calls[planning.OpDeadLetters] != calls {
			t.Error("it was selected again")
		}
	})
}
