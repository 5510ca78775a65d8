package planning_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestOrdersOnTheOperation: what is paused is not sent until it goes on, what is
// cancelled never.
func TestOrdersOnTheOperation(t *testing.T) {
	for code, after := range map[string]int{pushing.CodePaused: 1, pushing.CodeStopped: 1, pushing.CodeCancelled: 0} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.bury(1, 20*time.Hour, time.Hour)
			h.requested.refuse(errAway)
			r := h.report(t, alarm(events.DeadLetters))
			scope := pushing.OfOperation(r.OperationID)
			if code == pushing.CodeStopped {
				scope = pushing.Everything
			}
			if err := h.ledger.Order(t.Context(), scope, pushing.Order{Code: code}); err != nil {
				t.Fatal(err)
			}
			h.requested.refuse(nil)
			h.setOffline(code == pushing.CodeCancelled) // nobody needs to be there for that
			for range 5 {
				time.Sleep(time.Minute)
				h.sweep(t)
			}
			if n := len(h.requested.requests(t)); n != 0 {
				t.Fatalf("%s: %d requests", code, n)
			}
			if err := h.ledger.Order(t.Context(), scope, pushing.Order{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if s := h.sweep(t); s.Open != 0 || len(h.requested.requests(t)) != after {
				t.Errorf("%s: sweep %+v, %d requests", code, s, len(h.requested.requests(t)))
			}
		})
	}
}

// TestMemoryGivesBack: what is not done when an invocation ends is the platform's
// to deliver again, where documents end with the process.
func TestMemoryGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(_ *planning.Policy, p *planning.Ports) { p.Documents = p.Documents.(durable).Documents })
		h.bury(1, 20*time.Hour, time.Hour)
		h.setOffline(true)
		got := h.do(t, alarm(events.DeadLetters))
		if !got.Deferred || got.Parked || got.RetryAfter <= 0 {
			t.Errorf("nobody online: %+v", got)
		}
		h.setOffline(false)
		time.Sleep(got.RetryAfter)
		if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 1 {
			t.Errorf("delivered again: %+v", got)
		}
	})
}

// TestTwiceInOneNotification: alerts of one incident, as a notification has them, are
// answered alike.
func TestTwiceInOneNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(_ *planning.Policy, p *planning.Ports) { p.Documents = p.Documents.(durable).Documents })
		h.bury(1, 20*time.Hour, time.Hour)
		both := []pushing.Delivery{alarm(events.DeadLetters), alarm(events.DeadLetters)}
		both[1].Plan.Reason = "another pod"
		for _, offline := range []bool{true, false} {
			h.setOffline(offline)
			time.Sleep(time.Minute)
			for i, got := range h.Handle(t.Context(), "i", both) {
				code := planning.CodeNoClient
				if !offline {
					code = []string{planning.CodeDone, planning.CodeJoined}[i]
				}
				if got.Deferred != offline || got.Code != code {
					t.Errorf("offline %t: result %d = %+v", offline, i, got)
				}
			}
		}
		if n := len(h.requested.sent); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// away is a store that cannot be reached.
type away struct {
	planning.Documents
	is bool
}

func (a *away) Load(ctx context.Context, key string) ([]byte, int64, error) {
	if a.is {
		return nil, 0, &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Code: "StateLoading", Err: errAway}
	}
	return a.Documents.Load(ctx, key)
}

func (a *away) Due(ctx context.Context, limit int) ([]string, int, error) {
	if a.is {
		return nil, 0, errAway
	}
	return a.Documents.Due(ctx, limit)
}

// TestStateAway: nothing is done without it, and everything is given back.
func TestStateAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &away{is: true}
		h := newHouse(t, func(_ *planning.Policy, p *planning.Ports) {
			store.Documents = p.Documents
			p.Documents = store
		})
		h.bury(1, 20*time.Hour, time.Hour)
		if got := h.do(t, alarm(events.DeadLetters)); !got.Deferred || got.Code != "StateLoading" {
			t.Errorf("alert: %+v", got)
		}
		if got := h.do(t, pushing.Delivery{Sweep: new(events.Sweep)}); !got.Deferred {
			t.Errorf("sweep: %+v", got)
		}
		if len(h.calls) != 0 {
			t.Errorf("calls %v", h.calls)
		}
		store.is = false
		if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 1 {
			t.Errorf("when it is back: %+v", got)
		}
	})
}

// TestStopping: a process that is about to end begins no call any more.
func TestStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		stopped, stop := context.WithCancel(t.Context())
		stop()
		h.Draining = stopped
		if got := h.do(t, alarm(events.DeadLetters)); !got.Parked || len(h.calls) != 0 {
			t.Errorf("%+v, calls %v", got, h.calls)
		}
		h.restart()
		if s := h.sweep(t); s.Closed != 1 || len(h.requested.requests(t)) != 1 {
			t.Errorf("sweep = %+v", s)
		}
	})
}

// TestNeverAnswers: what fails for as long as messages live is given up, and
// told.
func TestNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		h.fail = func(int, string) error {
			return &pushing.Error{Kind: pushing.Internal, Op: "x", Err: errors.New("the SDK panicked")}
		}
		h.do(t, person("p", events.Plan{Source: events.DeadLetters}))
		for range 80 {
			time.Sleep(time.Hour)
			h.sweep(t)
		}
		plans := h.results.plans(t)
		if s := h.sweep(t); s.Open != 0 || len(plans) != 1 || plans[0].Code != planning.CodeExpired {
			t.Errorf("sweep = %+v, plans %+v", s, plans)
		}
	})
}

// TestTraceOfWhatIsGone leaves out that message alone.
func TestTraceOfWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagging(t, false)
		n := 0
		h.fail = func(_ int, op string) error {
			if op == planning.OpTrace {
				if n++; n == 1 {
					return &pushing.Error{Kind: pushing.Refused, Op: op, Code: "BIZ_NO_MESSAGE"}
				}
			}
			return nil
		}
		h.report(t, alarm(events.Unconsumed))
		if p := h.results.plans(t)[0]; leftOut(p)["no such message in this topic"] != 1 || p.Count < 2 {
			t.Errorf("plan = %+v", p)
		}
	})
}

// TestPanic is answered, and the incident goes on when its lease is over.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		h.meddle = func(int, planning.Query, *planning.Page) error { panic("sesame") }
		if got := h.do(t, alarm(events.DeadLetters)); !got.Deferred {
			t.Errorf("a panic: %+v", got)
		}
		h.meddle = nil
		time.Sleep(2 * time.Minute)
		if s := h.sweep(t); s.Closed != 1 {
			t.Errorf("sweep = %+v", s)
		}
	})
}
