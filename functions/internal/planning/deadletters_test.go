package planning_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestAlertBecomesRequests: the whole way, in the order of expiry, once.
func TestAlertBecomesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n, age := range map[int]time.Duration{1: 20 * time.Hour, 2: 60 * time.Hour, 3: 40 * time.Hour} {
			h.bury(n, age, 10*time.Hour)
		}
		h.bury(3, 40*time.Hour, 2*time.Hour) // died twice
		got := h.report(t, alarm(events.DeadLetters))
		if got.Requests != 3 || got.OperationID == "" || got.Manifest == nil || got.Manifest.Count != 3 || got.Manifest.Incomplete != "" || got.Open {
			t.Fatalf("report = %+v", got)
		}
		requests := h.requested.requests(t)
		if diff := cmp.Diff([]string{msgID(2), msgID(3), msgID(1)}, ids(requests)); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		want := events.Requested{
			InstanceID: instance, GroupID: consumer, Topic: topic, MsgID: msgID(2), OffsetID: fmt.Sprintf("A%031X", 2), Generation: 1,
			Reason: "alert: a rule", OperationID: got.OperationID, Priority: events.PriorityAlert, StoredAt: time.Now().Add(-60 * time.Hour),
		}
		if diff := cmp.Diff(want, requests[0]); diff != "" {
			t.Errorf("the first request (-want +got):\n%s", diff)
		}
		plans := h.results.plans(t)
		if len(plans) != 1 || plans[0].OperationID != got.OperationID || plans[0].SHA256 != got.Manifest.SHA256 || plans[0].DryRun || plans[0].Estimate.Seconds != 1 {
			t.Errorf("plans = %+v", plans)
		}
		if copies := plans[0].Entries[1].Copies; copies != 2 {
			t.Errorf("%d copies counted, want 2", copies)
		}
		if plans[0].Calls[planning.OpDeadLetters] == 0 || plans[0].Calls[planning.OpTrace] != 0 {
			t.Errorf("calls = %v: dead letters are never judged by trace", plans[0].Calls)
		}
	})
}

// TestDeadLettersLeftOut: each with its reason.
func TestDeadLettersLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.policy.MaxPushes = 2
		h.restart()
		for n := 1; n <= 9; n++ {
			h.bury(n, 20*time.Hour, 10*time.Hour)
		}
		h.dead[0].Origin = pushing.Origin{}                // 1: no origin
		h.dead[1].Origin.Topic = "payments"                // 2: not allowed
		h.dead[2].BornAt = time.Now().Add(-80 * time.Hour) // 3: the origin is gone
		h.dead[3].BornAt = time.Now().Add(-80 * time.Hour) // 4: made long ago, delivered yesterday
		h.store(4, 20*time.Hour)
		h.decide(t, 5, 1, "")             // under way
		h.decide(t, 6, 1, events.Pushed)  // and died before
		h.decide(t, 7, 1, events.Unknown) // the same
		h.decide(t, 8, 1, events.Failed)  // nothing was sent: may be asked for again
		h.decide(t, 9, 1, events.Pushed)
		time.Sleep(2 * time.Minute)
		h.bury(9, 20*time.Hour, 0) // died again since it was pushed
		h.bury(10, 20*time.Hour, time.Hour)
		h.decide(t, 10, 1, events.Pushed)
		h.decide(t, 10, 2, events.Unknown)
		time.Sleep(2 * time.Minute)
		h.bury(10, 20*time.Hour, 0) // died again, and was pushed as often as allowed
		h.bury(11, 20*time.Hour, time.Hour)
		h.dead[len(h.dead)-1].Origin.MsgID = "not hexadecimal" // nobody could ask for it

		if got := h.report(t, alarm(events.DeadLetters)); got.Code != planning.CodeDone {
			t.Fatalf("report = %+v", got)
		}
		p := h.results.plans(t)[0]
		want := map[string]int{
			"no origin": 2, "not allowed": 1, "origin expired": 1, "asked for before and not decided yet": 1, "pushed before": 1,
			"may have been pushed before (unknown)": 1, "pushed as often as allowed (REPUSH_MAX_PUSHES)": 1,
		}
		if diff := cmp.Diff(want, leftOut(p)); diff != "" {
			t.Errorf("left out (-want +got):\n%s", diff)
		}
		got := ids(h.requested.requests(t))
		slices.Sort(got)
		if diff := cmp.Diff([]string{msgID(4), msgID(8), msgID(9)}, got); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		for _, e := range p.Entries {
			if (e.MsgID == msgID(9)) != (e.Generation == 2) {
				t.Errorf("%s: generation %d", e.MsgID, e.Generation)
			}
		}
	})
}

// TestRepeatsJoin: while an incident is open and in its cooldown, which outlives
// that the alarm said OK; not after it.
func TestRepeatsJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		first := h.report(t, alarm(events.DeadLetters))
		h.bury(2, 20*time.Hour, time.Minute)
		for range 29 {
			time.Sleep(time.Minute)
			if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 0 || got.Code != planning.CodeJoined || got.IncidentID != first.IncidentID || got.OperationID != first.OperationID {
				t.Fatalf("a repeat = %+v", got)
			}
			ok := pushing.Delivery{Request: pushing.RequestKey{Source: "acs:cms", ID: "ok"}, Alert: true, Nothing: "the alarm is over"}
			if got := h.report(t, ok); got.Requests != 0 || got.Code != planning.CodeNothing || got.Message != "the alarm is over" {
				t.Fatalf("OK = %+v", got)
			}
		}
		if got := h.requested.requests(t); len(got) != 1 {
			t.Fatalf("%d requests in the cooldown", len(got))
		}
		time.Sleep(time.Minute)
		h.ledger.Documents() // nothing is kept there
		h.decide(t, 1, 1, events.Pushed)
		next := h.report(t, alarm(events.DeadLetters))
		if next.IncidentID == first.IncidentID || next.Requests != 1 {
			t.Errorf("after the cooldown: %+v", next)
		}
		if got := ids(h.requested.requests(t)); !slices.Equal(got, []string{msgID(1), msgID(2)}) {
			t.Errorf("requests = %v", got)
		}
	})
}

// TestOtherIncidents: another topic or source is another incident.
func TestOtherIncidents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		seen := make(map[string]bool)
		of := func(change func(*events.Plan)) string {
			d := alarm(events.DeadLetters)
			change(d.Plan)
			return h.report(t, d).IncidentID
		}
		for _, change := range []func(*events.Plan){
			func(*events.Plan) {}, func(p *events.Plan) { p.Topic = topic }, func(p *events.Plan) { p.Source = events.Unconsumed }, func(p *events.Plan) { p.GroupID = "GID_y" },
		} {
			if id := of(change); id == "" || seen[id] {
				t.Errorf("incident %q", id)
			} else {
				seen[id] = true
			}
		}
		if again := of(func(p *events.Plan) { p.Reason = "another rule" }); !seen[again] {
			t.Error("who says it makes another incident of it")
		}
	})
}

// TestNobodyOnline: the incident waits, and the sweep looks again.
func TestNobodyOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		h.bury(2, 71*time.Hour, time.Hour)
		h.offline = true
		got := h.do(t, alarm(events.DeadLetters))
		if r, _ := got.Report.(planning.Report); !got.Parked || got.Deferred || got.Code != planning.CodeNoClient || !r.Open {
			t.Fatalf("nobody online: %+v", got)
		}
		for range 120 {
			time.Sleep(time.Minute)
			h.sweep(t)
		}
		if len(h.requested.requests(t)) != 0 || h.calls[planning.OpDeadLetters] != 0 {
			t.Fatal("something was done for nobody")
		}
		before := h.calls[planning.OpOnline]
		for range 590 {
			time.Sleep(100 * time.Millisecond)
			if got := h.do(t, alarm(events.DeadLetters)); !got.Parked || got.Code != planning.CodeNoClient || got.RetryAfter > time.Minute {
				t.Fatalf("a repeat while it waits: %+v", got)
			}
		}
		if n := h.calls[planning.OpOnline] - before; n != 0 {
			t.Errorf("%d calls by alerts about what waits a minute", n)
		}
		h.setOffline(false)
		time.Sleep(time.Minute)
		if s := h.sweep(t); s.Taken != 1 || s.Closed != 1 || s.Open != 0 {
			t.Errorf("sweep = %+v", s)
		}
		// The other one expired meanwhile.
		if got := ids(h.requested.requests(t)); !slices.Equal(got, []string{msgID(1)}) {
			t.Errorf("requests = %v", got)
		}
		if got := h.report(t, alarm(events.DeadLetters)); got.Code != planning.CodeJoined {
			t.Errorf("hours after it began, and at once after its end: %+v", got)
		}
		if s := h.sweep(t); s.Taken != 0 {
			t.Errorf("sweep of nothing = %+v", s)
		}
	})
}

// TestNobodyEverOnline: it ends, with the messages.
func TestNobodyEverOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.offline = true
		h.report(t, alarm(events.DeadLetters))
		time.Sleep(73 * time.Hour)
		if s := h.sweep(t); s.Closed != 1 || s.Open != 0 {
			t.Errorf("sweep = %+v", s)
		}
	})
}

// TestLimits: the plan's own, the policy's and the group's budget; what is over
// them is counted and named.
func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		limit, budget, own int
		want               int
		reason             string
	}{
		"the policy's":         {limit: 7, budget: 1000, want: 7, reason: "over the limit of one plan"},
		"the plan's":           {limit: 7, budget: 1000, own: 3, want: 3, reason: "over the limit of one plan"},
		"the plan's, too high": {limit: 7, budget: 1000, own: 9, want: 7, reason: "over the limit of one plan"},
		"the group's":          {limit: 7, budget: 5, want: 5, reason: "over the budget of the group (REPUSH_GROUP_BUDGET, four plans a day)"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.Limit, p.GroupBudget = test.limit, test.budget })
			for n := range 20 {
				h.bury(n, 20*time.Hour+time.Duration(n)*time.Minute, time.Hour)
			}
			d := alarm(events.DeadLetters)
			d.Plan.Limit = test.own
			h.report(t, d)
			p := h.results.plans(t)[0]
			if p.Count != test.want || leftOut(p)[test.reason] == 0 || p.Entries[0].MsgID != msgID(19) {
				t.Errorf("%s: %d entries, left out %v", name, p.Count, leftOut(p))
			}
			n := p.Count
			for _, out := range p.LeftOut {
				n += len(out.MsgIDs)
			}
			if n != 20 || len(h.requested.requests(t)) != test.want {
				t.Errorf("%s: %d of 20 messages named, %d requests", name, n, len(h.requested.requests(t)))
			}
		})
	}
}

// TestBudgetIsOne: incidents of one group that open together share its budget.
func TestBudgetIsOne(t *testing.T) {
	for name, test := range map[string]struct{ budget, plans, requests int }{
		"requests": {25, 3, 25}, "plans": {1000, 4, 40},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) {
				p.GroupBudget = test.budget
				p.Allow, _ = pushing.ParseAllowList(instance + "/GID_*/*")
			})
			h.setOffline(true)
			for i := range 6 {
				d := alarm(events.DeadLetters)
				d.Plan.Topic = fmt.Sprint("topic", i)
				h.report(t, d)
				for n := range 10 {
					h.bury(100*i+n, 20*time.Hour, time.Hour)
					h.dead[len(h.dead)-1].Origin.Topic = d.Plan.Topic
				}
			}
			h.setOffline(false)
			time.Sleep(time.Minute)
			if s := h.sweep(t); s.Closed != 6 || s.Open != 0 {
				t.Errorf("%s: sweep = %+v", name, s)
			}
			sending, spent := 0, 0
			for _, p := range h.results.plans(t) {
				if p.Count > 0 {
					sending++
				} else if p.Code == planning.CodeBudget && strings.Contains(p.Message, "four plans") {
					spent++
				}
			}
			if n := len(h.requested.requests(t)); n != test.requests || sending != test.plans || sending+spent != 6 {
				t.Errorf("%s: %d requests in %d plans, %d without", name, n, sending, spent)
			}
		})
	}
}

// TestEstimate says how long it will take behind what waits, and what is too late.
func TestEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n := range 50 {
			h.decide(t, 1000+n, 1, "") // open work of others
		}
		for n := range 100 {
			h.bury(n, 72*time.Hour-7*time.Second, time.Hour)
		}
		h.report(t, person("p", events.Plan{Source: events.DeadLetters, DryRun: true}))
		p := h.results.plans(t)[0]
		if p.Estimate.Seconds != 15 || p.Estimate.Expiring != 81 {
			t.Errorf("estimate = %+v, want 15 s and 81", p.Estimate)
		}
		if !p.DryRun || len(h.requested.requests(t)) != 0 {
			t.Error("a dry run sent requests")
		}
	})
}
