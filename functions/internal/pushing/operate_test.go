package pushing_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func (h *house) operate(t *testing.T, op events.Operation) pushing.Result {
	t.Helper()
	got := h.do(t, time.Minute, pushing.Delivery{Operation: &op, Silent: true})[0]
	if got.Report == nil || got.Deferred || got.Outcome != "" {
		t.Fatalf("%s = %+v, want a report", op.Action, got)
	}
	return got
}

func (h *house) status(t *testing.T, op events.Operation) pushing.StatusReport {
	t.Helper()
	op.Action = events.Status
	return h.operate(t, op).Report.(pushing.StatusReport)
}

func inOperation(id string) func(*events.Requested) {
	return func(r *events.Requested) { r.OperationID = id }
}

// pushesAfter counts the calls that began later than at.
type pushTimes struct {
	mu    sync.Mutex
	times []time.Time
}

func (p *pushTimes) note(int, pushing.Target) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times = append(p.times, time.Now())
	return true, nil
}

func (p *pushTimes) after(at time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(p.times), func(pushed time.Time) bool { return !pushed.After(at) }))
}

// TestStopDuringARun: no push later than one second after it; then the rest.
func TestStopDuringARun(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][2]events.Operation{
		"stop and start":     {{Action: events.Stop}, {Action: events.Start}},
		"pause and continue": {{Action: events.Pause, OperationID: "op"}, {Action: events.Continue, OperationID: "op"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const n = 300
				var pushes pushTimes
				h := newHouse(t, keptIn(newDurable()), paced(10), withPolicy(func(p *pushing.Policy) { p.GiveUpAfter = time.Hour }))
				h.answer = pushes.note
				var run sync.WaitGroup
				run.Go(func() {
					for _, r := range h.do(t, time.Minute, batch(0, n, inOperation("op"))...) {
						if r.Deferred {
							t.Errorf("given back: %+v", r)
						}
					}
				})
				time.Sleep(10 * time.Second)
				h.operate(t, order[0])
				stopped := time.Now()
				run.Wait()
				for time.Since(stopped) < 3*time.Hour { // longer than what waits may age
					h.sweep(t, time.Minute)
					time.Sleep(time.Minute)
				}
				if late := pushes.after(stopped.Add(time.Second)); late > 0 || len(pushes.times) < 50 {
					t.Fatalf("%d pushes before, %d of them more than a second after the order", len(pushes.times), late)
				}
				if s := h.status(t, events.Operation{OperationID: "op"}).Progress; len(s.Orders) != 1 || s.States["waiting"] != n-len(pushes.times) {
					t.Errorf("status = %+v", s)
				}
				h.operate(t, order[1])
				h.sweepUntil(t, n)
				h.onceEach(t, n)
			})
		})
	}
}

func TestCancelEndsWhatWasNotPushed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		h := newHouse(t, keptIn(newDurable()), paced(10))
		var run sync.WaitGroup
		run.Go(func() { h.do(t, time.Minute, batch(0, n, inOperation("op"))...) })
		time.Sleep(10 * time.Second)
		h.operate(t, events.Operation{Action: events.Cancel, OperationID: "op"})
		at := h.mail.count()
		run.Wait()
		h.sweepUntil(t, n)
		outcomes := make(map[events.Outcome]int)
		for _, c := range h.mail.results(t) {
			outcomes[c.Outcome]++
		}
		if outcomes[events.Pushed] > at+2 || outcomes[events.Pushed]+outcomes[events.Cancelled] != n || len(h.mail.sent) != n {
			t.Errorf("outcomes = %v, %d were pushed at the cancellation", outcomes, at)
		}
		s := h.status(t, events.Operation{OperationID: "op"}).Progress
		if s.Outcomes[events.Cancelled] != outcomes[events.Cancelled] || s.Outcomes[events.Pushed] != outcomes[events.Pushed] {
			t.Errorf("status = %+v, results say %v", s, outcomes)
		}
		if got := h.operate(t, events.Operation{Action: events.Continue, OperationID: "op"}); got.Code != "Cancelled" {
			t.Errorf("continue = %+v, want a refusal: a cancellation is final", got)
		}
		if got := h.one(t, delivery("late", 1000, inOperation("op"))); got.Outcome != events.Cancelled {
			t.Errorf("a late request of the operation = %+v", got)
		}
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, keptIn(newDurable()), paced(10))
		h.Shares = func(context.Context) any { return "shares" }
		go h.do(t, time.Minute, batch(0, 200, inOperation("op"))...)
		time.Sleep(10 * time.Second)
		s := h.status(t, events.Operation{OperationID: "op"})
		if s.Rate < 9 || s.Rate > 10.5 || s.Progress.Outcomes[events.Pushed] < 90 || s.Quota != "shares" {
			t.Errorf("status = %+v, %+v", s, s.Progress)
		}
		message := h.mail.results(t)[0].Request.Data // turns do not come in the order of the batch
		got := h.status(t, events.Operation{InstanceID: message.InstanceID, Topic: message.Topic, GroupID: message.GroupID, MsgID: message.MsgID})
		if got.History == nil || len(got.History.Requests) != 1 || got.History.Requests[0].Outcome != events.Pushed || got.Progress != nil {
			t.Errorf("status of a message = %+v, %+v", got, got.History)
		}
		if all := h.status(t, events.Operation{}); all.Progress.Outcomes[events.Pushed] < 90 {
			t.Errorf("status of everything = %+v", all.Progress)
		}
		h.Describe = func(context.Context) any { return map[string]string{"version": "v"} }
		if got := h.operate(t, events.Operation{Action: events.Describe}); fmt.Sprint(got.Report) != "map[version:v]" {
			t.Errorf("describe = %+v", got)
		}
		time.Sleep(time.Minute)
	})
}

// TestBreakerCountsNoCallsUnderWay: what was refused after the breaker opened,
// but had begun before, makes it stay open no longer.
func TestBreakerCountsNoCallsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, keptIn(newDurable()), paced(10))
		h.takes = 10 * time.Second
		h.answer = func(int, pushing.Target) (bool, error) {
			return false, &pushing.Error{Kind: pushing.Refused, Op: "OnsMessagePush", Code: "Forbidden.RAM", RequestID: "r", Denied: true}
		}
		h.do(t, time.Minute, batch(0, 40)...)
		h.answer, h.takes = nil, 0
		time.Sleep(61 * time.Second)
		if got := h.one(t, delivery("probe", 100)); got.Outcome != events.Pushed {
			t.Errorf("a minute after 40 refusals: %+v, want the probe", got)
		}
	})
}

// TestBreaker: five refusals in a row for lack of permission, then nothing for
// a minute; a probe decides.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var denied bool
		h := newHouse(t, keptIn(newDurable()))
		h.answer = func(int, pushing.Target) (bool, error) {
			if denied {
				return false, &pushing.Error{Kind: pushing.Refused, Op: "OnsMessagePush", Code: "Forbidden.RAM", RequestID: "r", Denied: true}
			}
			return true, nil
		}
		deliver := func(i int) pushing.Result { return h.one(t, delivery(fmt.Sprint("event-", i), i)) }
		denied = true
		for i := range 4 {
			deliver(i)
		}
		denied = false
		deliver(4) // one that passes in between starts the count anew
		denied = true
		for i := range 5 {
			if got := deliver(5 + i); got.Outcome != events.Failed || got.Code != "Forbidden.RAM" {
				t.Fatalf("refusal %d = %+v", i, got)
			}
		}
		calls := len(h.calls)
		for i := range 20 {
			if got := deliver(10 + i); !got.Parked || got.Code != "BreakerOpen" {
				t.Fatalf("behind an open breaker: %+v", got)
			}
		}
		other := h.one(t, delivery("other", 500, func(r *events.Requested) { r.GroupID = "GID_other" }))
		if len(h.calls) != calls+1 || other.Outcome != events.Failed {
			t.Errorf("%d calls behind an open breaker, another group's = %+v", len(h.calls)-calls-1, other)
		}
		calls = len(h.calls)
		for _, open := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			time.Sleep(open - 12*time.Second)
			h.sweep(t, time.Minute)
			if len(h.calls) != calls {
				t.Fatalf("a call within %v", open)
			}
			time.Sleep(13 * time.Second)
			h.sweep(t, time.Minute)
			if calls++; len(h.calls) != calls {
				t.Fatalf("%d calls after %v, want one probe", len(h.calls)-calls+1, open)
			}
		}
		denied = false
		time.Sleep(11 * time.Minute)
		h.sweepUntil(t, 5+5+1+20)
		for i := range 3 {
			if got := deliver(100 + i); got.Outcome != events.Pushed {
				t.Errorf("after the probe passed: %+v", got)
			}
		}
	})
}

var denied = &pushing.Error{Kind: pushing.Refused, Op: "OnsMessagePush", Code: "Forbidden.RAM", RequestID: "r", Denied: true}

// TestBreakerOfLookUps: the permission that lacks may be that of the look-up.
func TestBreakerOfLookUps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, keptIn(newDurable()))
		h.lookErr = denied
		for _, d := range batch(0, 5) {
			h.one(t, d)
		}
		time.Sleep(61 * time.Second)
		failed := 0
		for _, d := range batch(100, 50) {
			if h.one(t, d).Outcome == events.Failed {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d requests failed after the first minute, want one probe", failed)
		}
	})
}

// TestBreakerClosesWhenPermitted, whatever else is wrong with the message.
func TestBreakerClosesWhenPermitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := error(denied)
		h := newHouse(t, keptIn(newDurable()))
		h.answer = func(int, pushing.Target) (bool, error) { return false, answer }
		for _, d := range batch(0, 5) {
			h.one(t, d)
		}
		answer = failure(pushing.Refused, "BIZ_NO_MESSAGE")
		time.Sleep(61 * time.Second)
		for _, d := range batch(100, 3) {
			if got := h.one(t, d); got.Code != "BIZ_NO_MESSAGE" {
				t.Errorf("result = %+v", got)
			}
		}
	})
}

// lateSlots is a pacer whose slots come two seconds after they are booked.
type lateSlots struct{ open }

func (p *lateSlots) Turn(context.Context, events.Priority) (pushing.Turn, error) { return p, nil }
func (p *lateSlots) Book(context.Context) (pushing.Slot, error) {
	time.Sleep(2 * time.Second)
	return p, nil
}

// TestBreakerOfAnotherInstance: who was halted by it sends one probe, not five.
func TestBreakerOfAnotherInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newDurable()
		one := newHouse(t, keptIn(l))
		other := newHouse(t, keptIn(l), func(_ *pushing.Policy, with *parts) { with.pacer = &lateSlots{} })
		deny := func(int, pushing.Target) (bool, error) { return false, denied }
		one.answer, other.answer = deny, deny
		var slow sync.WaitGroup
		slow.Go(func() { other.do(t, time.Minute, delivery("claimed before it opens", 99)) })
		time.Sleep(time.Second)
		one.do(t, time.Minute, batch(0, 5)...)
		slow.Wait()
		if len(other.calls) != 0 {
			t.Errorf("%d calls behind another's breaker", len(other.calls))
		}
		time.Sleep(61 * time.Second)
		other.do(t, time.Minute, batch(100, 20)...)
		if len(other.calls) != 1 {
			t.Errorf("%d calls after the minute, want one probe", len(other.calls))
		}
	})
}

// TestBreakerOutlivesInstances: every sweep in another one, and still there is
// one probe after a minute, two, four, eight.
func TestBreakerOutlivesInstances(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newDurable()
		deny := func(int, pushing.Target) (bool, error) { return false, denied }
		first := newHouse(t, keptIn(l))
		first.answer = deny
		for _, d := range batch(0, 50) {
			first.one(t, d)
		}
		began, calls := time.Now(), 0
		for time.Since(began) < 20*time.Minute {
			time.Sleep(time.Minute)
			h := newHouse(t, keptIn(l))
			h.answer = deny
			h.sweep(t, 50*time.Second)
			calls += len(h.calls)
		}
		if calls < 3 || calls > 5 {
			t.Errorf("%d calls in twenty minutes, want a probe after 1, 2, 4 and 8", calls)
		}
	})
}

func TestACancellationIsFinal(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keptIn(newDurable()))
	for _, a := range []events.Action{events.Cancel, events.Pause, events.Continue} {
		h.operate(t, events.Operation{Action: a, OperationID: "op"})
	}
	if got := h.one(t, delivery("d", 1, inOperation("op"))); got.Outcome != events.Cancelled {
		t.Errorf("result = %+v", got)
	}
	h.one(t, delivery("dry", 2, inOperation("op"), func(r *events.Requested) { r.DryRun = true }))
	if last := h.mail.last(t); last.Outcome != events.Simulated || last.Code != "WouldNotPush" {
		t.Errorf("dry run of cancelled work: %q %q", last.Code, last.Message)
	}
}
