package planning_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

var errThrottled = &pushing.Error{Kind: pushing.Throttled, Op: planning.OpDeadLetters, Code: "Throttling.User", RequestID: "r"}

// TestPagesThatMove: whatever happens to the pages while they are read, the
// manifest has every dead letter that was there all the time, or says that it is
// not complete.
func TestPagesThatMove(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 220).Draw(rt, "dead letters")
		at := rapid.SliceOfN(rapid.IntRange(1, 9), 0, 5).Draw(rt, "pages meddled with")
		kinds := rapid.SliceOfN(rapid.SampledFrom([]string{"repeat", "vanish", "shift in", "shift out", "expire", "throttle", "cut", "short", "more"}), len(at), len(at)).Draw(rt, "how")
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			for i := range n {
				h.bury(i, 20*time.Hour, 10*time.Hour-time.Duration(i)*time.Second)
			}
			gone := make(map[string]bool)
			h.meddle = func(page int, q planning.Query, p *planning.Page) error {
				i := slices.Index(at, page)
				if i < 0 {
					return nil
				}
				switch kinds[i] {
				case "repeat":
					if q.Number > 1 {
						p.Messages = slices.Clone(h.dead[:min(len(h.dead), len(p.Messages))])
					}
				case "vanish":
					if q.Number > 1 {
						*p = planning.Page{}
					}
				case "shift in": // before all others
					h.dead = append([]planning.Stored{{
						Topic: "%DLQ%" + consumer, MsgID: msgID(5000 + page), OffsetID: fmt.Sprintf("E%031X", page), StoredAt: time.Now().Add(-30 * time.Hour), BornAt: time.Now().Add(-31 * time.Hour),
						Origin: pushing.Origin{Topic: topic, MsgID: msgID(5000 + page)},
					}}, h.dead...)
				case "shift out":
					if len(h.dead) > 0 {
						gone[h.dead[0].MsgID] = true
						h.dead = h.dead[1:]
					}
				case "expire":
					if q.Number > 1 {
						return &pushing.Error{Kind: pushing.Refused, Op: planning.OpDeadLetters, Code: "BIZ_FIELD_CHECK_INVALID"}
					}
				case "throttle":
					return errThrottled
				case "cut":
					return &pushing.Error{Kind: pushing.Unavailable, Op: planning.OpDeadLetters, Err: errAway}
				case "short":
					if len(p.Messages) > 0 && q.Number < p.Pages {
						p.Messages = p.Messages[1:]
					}
				case "more":
					if p.Pages > 0 {
						p.Pages++
					}
				}
				return nil
			}
			h.do(t, alarm(events.DeadLetters))
			for range 5 {
				time.Sleep(time.Minute)
				h.sweep(t)
			}
			plans := h.results.plans(t)
			if len(plans) != 1 {
				rt.Fatalf("%d plans", len(plans))
			}
			have := make(map[string]bool)
			for _, e := range plans[0].Entries {
				if have[e.MsgID] {
					rt.Fatalf("%s is in it twice", e.MsgID)
				}
				have[e.MsgID] = true
			}
			for i := range n {
				if id := msgID(i); !have[id] && !gone[id] && plans[0].Incomplete == "" {
					rt.Fatalf("dead letter %d is missing, and the manifest looks whole", i)
				}
			}
			if len(at) == 0 && plans[0].Incomplete != "" {
				rt.Fatalf("incomplete: %s", plans[0].Incomplete)
			}
		})
	})
}

// TestMoreThanATaskShows: the window is split until its parts can be listed.
func TestMoreThanATaskShows(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		n          int
		apart      time.Duration
		incomplete bool
	}{
		"over a day":             {4_000, 20 * time.Second, false},
		"within a minute":        {3_000, 20 * time.Millisecond, false},
		"one each millisecond":   {3_000, time.Millisecond, false},
		"in one millisecond":     {2_600, 0, true},
		"as many as fit exactly": {2_500, time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.Limit, p.GroupBudget = 10_000, 10_000 })
			for i := range test.n {
				h.bury(i, 60*time.Hour, 30*time.Hour-time.Duration(i)*test.apart)
			}
			h.report(t, alarm(events.DeadLetters))
			p := h.results.plans(t)[0]
			if (p.Incomplete != "") != test.incomplete || !test.incomplete && p.Count != test.n {
				t.Errorf("%s: %d of %d, incomplete %q", name, p.Count, test.n, p.Incomplete)
			}
			t.Logf("%s: %d calls for %d pages", name, p.Calls[planning.OpDeadLetters], (test.n+49)/50)
		})
	}
}

// TestPagesThatAlwaysMove: there is an end to reading them again.
func TestPagesThatAlwaysMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for i := range 120 {
			h.bury(i, 20*time.Hour, 10*time.Hour-time.Duration(i)*time.Second)
		}
		h.meddle = func(_ int, q planning.Query, p *planning.Page) error {
			if q.Number == 2 {
				*p = planning.Page{}
			}
			return nil
		}
		h.report(t, alarm(events.DeadLetters))
		if p := h.results.plans(t)[0]; p.Incomplete == "" || p.Count != 50 {
			t.Errorf("%d of 120, incomplete %q", p.Count, p.Incomplete)
		}
	})
}

// TestLongerThanAnInvocation: a selection keeps its place and goes on with the
// sweep, in other processes, with the pace of its quota.
func TestLongerThanAnInvocation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := lagging(t, true)
		h.lags[0].Messages = 500
		for i := range 500 {
			h.store(100+i, time.Hour-time.Duration(i)*time.Second)
			h.tracks[msgID(100+i)] = "NOT_CONSUME_YET"
		}
		h.ports.Pacer = func(op string) pushing.Pacer {
			return spaced(map[string]time.Duration{planning.OpMessages: 6 * time.Second, planning.OpTrace: 100 * time.Millisecond}[op])
		}
		h.restart()
		began := time.Now()
		invoke := func(d pushing.Delivery) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			h.Handle(ctx, "i", []pushing.Delivery{d})
			if h.requestsSent() < 503 && time.Since(began) > 10*time.Minute {
				t.Fatal("it does not get on")
			}
			h.restart()
		}
		invoke(alarm(events.Unconsumed))
		if h.requestsSent() > 0 {
			t.Fatal("it fitted into one invocation")
		}
		for h.requestsSent() < 503 {
			time.Sleep(time.Minute - time.Since(began)%time.Minute)
			invoke(pushing.Delivery{Sweep: new(events.Sweep)})
		}
		p := h.results.plans(t)[0]
		if p.Count != 503 || p.Incomplete != "" || p.Calls[planning.OpTrace] > 600 || p.Calls[planning.OpMessages] > 14 {
			t.Errorf("%d entries, incomplete %q, calls %v: what was done is done again", p.Count, p.Incomplete, p.Calls)
		}
	})
}

// TestLongScanHoldsUpNobody: sweeps take the group's incidents in turn, and so the other
// one second.
func TestLongScanHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 500)
		h.bury(1000, time.Hour, time.Minute)
		h.ports.Pacer = func(op string) pushing.Pacer {
			return spaced(map[string]time.Duration{planning.OpMessages: 20 * time.Second, planning.OpDeadLetters: time.Second}[op])
		}
		h.restart()
		invoke(t, h, alarm(events.Unconsumed), time.Minute)
		invoke(t, h, alarm(events.DeadLetters), time.Second) // too short for a page
		for range 2 {
			time.Sleep(time.Minute)
			h.sweep(t)
		}
		if h.requestsSent() != 1 {
			t.Errorf("%d requests after two sweeps", h.requestsSent())
		}
	})
}

func (h *house) requestsSent() int {
	h.requested.mu.Lock()
	defer h.requested.mu.Unlock()
	return len(h.requested.sent)
}

// TestAPIThatSaysNo: for good, it ends the incident and says why; for now, the
// sweep tries again.
func TestAPIThatSaysNo(t *testing.T) {
	t.Parallel()
	for kind, ends := range map[pushing.Kind]bool{
		pushing.Refused: true, pushing.Unavailable: false, pushing.Throttled: false, pushing.Credentials: false, pushing.Internal: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.bury(1, 20*time.Hour, time.Hour)
			h.fail = func(int, string) error {
				return &pushing.Error{Kind: kind, Op: planning.OpDeadLetters, Code: "A_CODE", Err: errors.New("why")}
			}
			got := h.do(t, alarm(events.DeadLetters))
			if ends {
				plans := h.results.plans(t)
				if got.Outcome != events.Failed || got.Code != "A_CODE" || len(plans) != 1 || plans[0].Code != "A_CODE" || plans[0].OperationID != "" {
					t.Errorf("%v: %+v, plans %+v", kind, got, plans)
				}
				if got := h.do(t, alarm(events.DeadLetters)); got.Code != planning.CodeJoined || !strings.Contains(got.Message, "A_CODE") || len(h.results.sent) != 1 {
					t.Errorf("%v: a repeat: %+v, told %d times", kind, got, len(h.results.sent))
				}
				return
			}
			if !got.Parked || got.Code != "A_CODE" {
				t.Errorf("%v: %+v", kind, got)
			}
			h.fail = nil
			time.Sleep(time.Minute)
			if s := h.sweep(t); s.Closed != 1 || len(h.requested.requests(t)) != 1 {
				t.Errorf("%v: sweep = %+v", kind, s)
			}
		})
	}
}
