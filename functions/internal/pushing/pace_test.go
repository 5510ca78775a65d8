package pushing_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
)

func paced(qps float64) option {
	return func(_ *pushing.Policy, with *parts) { with.pacer = quota.NewPacer(quota.NewMemory(qps, nil), nil) }
}

func batchOf(n int) []pushing.Delivery {
	batch := make([]pushing.Delivery, n)
	for i := range batch {
		batch[i] = delivery(fmt.Sprint(i), i)
	}
	return batch
}

// TestShortInvocations: 100 requests and 6 s each time. The invocation ends in
// time and says what is left; redeliveries of the whole batch finish the rest,
// and each message is pushed once.
func TestShortInvocations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, paced(10))
		h.takes = 300 * time.Millisecond
		batch := batchOf(100)
		const within = 6 * time.Second
		left := len(batch)
		for invocation := 1; left > 0; invocation++ {
			if invocation > 8 {
				t.Fatalf("%d requests are still left after %d invocations", left, invocation-1)
			}
			began := time.Now()
			deferred := 0
			for i, r := range h.do(t, within, batch...) {
				if !r.Deferred {
					continue
				}
				deferred++
				if r.Code != "DeadlineTooShort" && r.Code != "NoSlot" {
					t.Errorf("invocation %d, request %d: %+v", invocation, i, r)
				}
			}
			if took := time.Since(began); took > within {
				t.Errorf("invocation %d took %v of %v", invocation, took, within)
			}
			if deferred >= left {
				t.Errorf("invocation %d decided nothing", invocation)
			}
			t.Logf("invocation %d: %d left after %v", invocation, deferred, time.Since(began))
			left = deferred
			time.Sleep(time.Second)
		}
		for i, d := range batch {
			if n := h.consumed[d.Data.MsgID]; n != 1 {
				t.Errorf("message %d reached the consumer %d times", i, n)
			}
		}
		if n := len(h.mail.sent); n != 100 {
			t.Errorf("%d result events for 100 requests", n)
		}
	})
}

// TestSlowListenersDoNotHoldThePace: with listeners that take 4 s, 400 pushes
// still go out at the quota's pace, because they do not wait for each other.
func TestSlowListenersDoNotHoldThePace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, paced(10))
		h.takes = 4 * time.Second
		began := time.Now()
		for i, r := range h.do(t, 5*time.Minute, batchOf(400)...) {
			if r.Outcome != events.Pushed {
				t.Fatalf("request %d = %+v", i, r)
			}
		}
		took := time.Since(began)
		used := 400 / (10 * (took - h.takes).Seconds())
		t.Logf("400 pushes in %v: %.1f %% of the quota from the first to the last call", took, 100*used)
		if share := 400 / (10 * took.Seconds()); share < 0.87 || used < 0.93 {
			t.Errorf("%.1f %% of the quota used, want at least 93 %%", 100*used)
		}
	})
}

// TestAPersonIsNotHeldUpByBulk: a single request by a person goes before the
// bulk that waits.
func TestAPersonIsNotHeldUpByBulk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, paced(10))
		bulk := batchOf(200)
		for i := range bulk {
			bulk[i].Data.Priority = events.PriorityBulk
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.do(t, 5*time.Minute, bulk...)
		}()
		time.Sleep(2 * time.Second)
		began := time.Now()
		d := delivery("person", 1000, func(r *events.Requested) { r.Priority = events.PriorityHuman })
		d.Human = true
		if got := h.one(t, d); got.Outcome != events.Pushed {
			t.Fatalf("result = %+v", got)
		}
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("the person waited %v", waited)
		}
		<-done
	})
}

// TestDraining: from the moment the process is to stop no push is begun; those
// in flight end with their results, the rest is deferred.
func TestDraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, paced(10))
		h.takes = time.Second
		draining, stop := context.WithCancel(context.Background())
		h.Draining = draining
		time.AfterFunc(2*time.Second, stop)
		began := time.Now()
		pushed, deferred := 0, 0
		for i, r := range h.do(t, time.Minute, batchOf(100)...) {
			switch {
			case r.Outcome == events.Pushed:
				pushed++
			case r.Deferred && (r.Code == "Stopping" || r.Code == "NoSlot"):
				deferred++
			default:
				t.Errorf("request %d = %+v", i, r)
			}
		}
		if took := time.Since(began); took > 3100*time.Millisecond {
			t.Errorf("took %v, want no push later than 2 s, each of 1 s", took)
		}
		if pushed < 15 || pushed != len(h.mail.sent) || pushed != len(h.calls) || pushed+deferred != 100 {
			t.Errorf("%d pushed, %d deferred, %d calls, %d results", pushed, deferred, len(h.calls), len(h.mail.sent))
		}
	})
}

// TestSlowCallsDoNotEndAllPushing: how long calls took lately keeps a push from
// beginning too late, and never for good.
func TestSlowCallsDoNotEndAllPushing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ within, slow, pause time.Duration }{
		"a push that fits by its time-out":        {within: 19 * time.Second, slow: 12 * time.Second},
		"a minute after calls that hardly fitted": {within: 10 * time.Second, slow: 8 * time.Second, pause: 61 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				for i, takes := range []time.Duration{c.slow, 100 * time.Millisecond} {
					h.takes = takes
					if got := h.do(t, c.within, delivery(fmt.Sprint(i), i))[0]; got.Outcome != events.Pushed {
						t.Errorf("push %d = %+v", i, got)
					}
					time.Sleep(c.pause)
				}
			})
		})
	}
}

// hung answers look-ups of one group late, and with an error.
type hung struct{ *broker }

func (h hung) Online(ctx context.Context, instanceID, groupID string) ([]string, error) {
	if groupID != "GID_hung" {
		return h.broker.Online(ctx, instanceID, groupID)
	}
	_ = pushing.Sleep(ctx, 5*time.Second)
	return nil, failure(pushing.Unavailable, "ONS_SYSTEM_ERROR")
}

// TestLookUpsThatFailHoldUpNoOtherGroup: a batch begins with many requests for a group
// whose clients cannot be looked up.
func TestLookUpsThatFailHoldUpNoOtherGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, paced(10), func(_ *pushing.Policy, with *parts) {
			with.online = func(b *broker) pushing.Connections { return hung{b} }
		})
		pushed, codes := 0, map[string]int{}
		for _, r := range h.do(t, time.Minute, append(batch(0, 100, func(r *events.Requested) { r.GroupID = "GID_hung" }), batch(100, 20)...)...) {
			if r.Outcome == events.Pushed {
				pushed++
			} else {
				codes[r.Code]++
			}
		}
		if pushed != 20 || codes["ONS_SYSTEM_ERROR"] != 100 {
			t.Errorf("%d pushed, the others wait with %v; want 20, and 100 that say why", pushed, codes)
		}
	})
}
