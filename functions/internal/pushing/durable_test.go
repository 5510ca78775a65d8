package pushing_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// durable is a ledger that says that it outlives the process.
type durable struct{ ledger.Memory }

func (durable) Durable() bool { return true }

func newDurable() durable { return durable{ledger.NewMemory(96*time.Hour, nil)} }

func keptIn(l pushing.Ledger) option {
	return func(_ *pushing.Policy, with *parts) { with.ledger = l }
}

// sweep runs one sweep and returns its report.
func (h *house) sweep(t *testing.T, within time.Duration) pushing.Swept {
	t.Helper()
	got := h.do(t, within, pushing.Delivery{Request: pushing.RequestKey{Source: "timer", ID: "sweep"}, Sweep: &events.Sweep{}, Silent: true})[0]
	report, ok := got.Report.(pushing.Swept)
	if !ok {
		t.Fatalf("sweep = %+v, want a report", got)
	}
	return report
}

// sweepUntil sweeps every minute until want results are out.
func (h *house) sweepUntil(t *testing.T, want int) {
	t.Helper()
	for range 200 {
		if h.mail.count() >= want {
			return
		}
		h.sweep(t, time.Minute)
		time.Sleep(time.Minute)
	}
	t.Fatalf("%d results after 200 sweeps, want %d", h.mail.count(), want)
}

func (m *mailbox) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent)
}

func batch(from, n int, change ...func(*events.Requested)) []pushing.Delivery {
	var all []pushing.Delivery
	for i := range n {
		all = append(all, delivery(fmt.Sprint("event-", from+i), from+i, change...))
	}
	return all
}

// onceEach fails the test unless each of n messages reached a consumer once and
// has one result event.
func (h *house) onceEach(t *testing.T, n int) {
	t.Helper()
	h.broker.mu.Lock()
	defer h.broker.mu.Unlock()
	if len(h.consumed) != n {
		t.Errorf("%d messages reached a consumer, want %d", len(h.consumed), n)
	}
	for m, times := range h.consumed {
		if times != 1 {
			t.Errorf("%s reached a consumer %d times", m, times)
		}
	}
	ids := make(map[string]bool)
	for _, e := range h.mail.sent {
		ids[e.ID] = true
	}
	if len(ids) != n {
		t.Errorf("%d distinct result events, want %d", len(ids), n)
	}
}

func TestWhatCannotBeDecidedIsParked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(*house)
		mend    func(*house)
		within  time.Duration
		code    string
	}{
		"nobody online": {
			prepare: func(h *house) { h.online = nil }, mend: func(h *house) { h.online = []string{"c"} }, within: time.Minute, code: "NoClientOnline"},
		"throttled": {
			prepare: func(h *house) {
				h.answer = func(int, pushing.Target) (bool, error) { return false, failure(pushing.Throttled, "Throttling.User") }
			},
			mend: func(h *house) { h.answer = nil }, within: 5 * time.Second, code: "NoSlot"},
		"too little time": {within: time.Second, code: "DeadlineTooShort"},
		"no result sink": {
			prepare: func(h *house) { h.mail.err = errors.New("away") }, mend: func(h *house) { h.mail.err = nil }, within: time.Minute, code: "ResultNotDelivered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, keptIn(newDurable()), paced(10))
				if test.prepare != nil {
					test.prepare(h)
				}
				got := h.do(t, test.within, delivery("a", 1))[0]
				if got.Deferred || !got.Parked || got.Code != test.code || got.Outcome != "" {
					t.Fatalf("result = %+v, want parked for %s", got, test.code)
				}
				if test.mend != nil {
					test.mend(h)
				}
				h.sweepUntil(t, 1)
				h.onceEach(t, 1)
				if again := h.one(t, delivery("a", 1)); again.Outcome != events.Duplicate || again.Code != "Redelivered" {
					t.Errorf("a redelivery afterwards = %+v", again)
				}
			})
		})
	}
}

// TestConsumerOfflineForAnHour: a trigger with three retries, which would
// bury what is given back four times.
func TestConsumerOfflineForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		h := newHouse(t, keptIn(newDurable()), paced(10))
		h.online = nil
		began := time.Now()
		for i := range n / 10 {
			for _, r := range h.do(t, time.Minute, batch(10*i, 10)...) {
				if r.Deferred {
					t.Fatalf("given back, which uses up the trigger's retries: %+v", r)
				}
			}
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("taking %d events in took %v: the stream was blocked", n, took)
		}
		for time.Since(began) < time.Hour {
			h.sweep(t, time.Minute)
			time.Sleep(time.Minute)
		}
		if h.mail.count() != 0 {
			t.Fatalf("%d results while nobody was online", h.mail.count())
		}
		h.broker.mu.Lock()
		h.online = []string{"c"}
		h.broker.mu.Unlock()
		h.sweepUntil(t, n)
		h.onceEach(t, n)
	})
}

func TestSeveralSweepsShareTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 120
		h := newHouse(t, keptIn(newDurable()), paced(10))
		h.takes = 300 * time.Millisecond
		for _, r := range h.do(t, time.Second, batch(0, n)...) {
			if !r.Parked {
				t.Fatalf("result = %+v", r)
			}
		}
		time.Sleep(time.Minute)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { h.sweep(t, time.Minute) })
		}
		wg.Wait()
		h.sweepUntil(t, n)
		h.onceEach(t, n)
	})
}

func TestASweepEndsInTimeAndSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		h := newHouse(t, keptIn(newDurable()), paced(10))
		h.do(t, time.Second, batch(0, n)...)
		time.Sleep(time.Minute)
		began := time.Now()
		got := h.sweep(t, 10*time.Second)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the sweep took %v", took)
		}
		if pushed := got.Outcomes[events.Pushed]; !got.TimeUp || pushed < 50 || pushed > 100 || got.Left.Open != n-pushed {
			t.Errorf("report = %+v", got)
		}
		time.Sleep(time.Minute)
		limited := h.do(t, time.Minute, pushing.Delivery{Sweep: &events.Sweep{Limit: 7}})[0].Report.(pushing.Swept)
		if limited.Taken != 7 || limited.TimeUp {
			t.Errorf("a sweep of 7 = %+v", limited)
		}
		h.sweepUntil(t, n)
		h.onceEach(t, n)
	})
}

// TestASweepFinishesWhatADeadWorkerLeft: claimed, sending, and decided but not
// sent.
func TestASweepFinishesWhatADeadWorkerLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newDurable()
		h := newHouse(t, keptIn(l))
		ctx := t.Context()
		for i := range 3 {
			d := delivery(fmt.Sprint("event-", i), i)
			c, err := l.Claim(ctx, pushing.Ask{Request: d.Request, Data: d.Data, Lease: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				continue
			}
			if err := l.MarkSending(ctx, c); err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				_ = l.Decide(ctx, c, pushing.Decision{Outcome: events.Pushed, Event: events.Event{ID: "stored"}})
			}
		}
		time.Sleep(time.Minute)
		got := h.sweep(t, time.Minute)
		if got.Taken != 3 || got.Outcomes[events.Pushed] != 2 || got.Outcomes[events.Unknown] != 1 || got.Left.Open != 0 {
			t.Errorf("report = %+v", got)
		}
		if len(h.calls) != 1 || h.calls[0].MsgID != delivery("", 0).Data.MsgID {
			t.Errorf("calls = %v, want one for what was only claimed", h.calls)
		}
		if got := h.sweep(t, time.Minute); got.Taken != 0 {
			t.Errorf("a second sweep took %+v", got)
		}
	})
}

func TestParkedWorkIsAbandonedInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, keptIn(newDurable()), withPolicy(func(p *pushing.Policy) { p.GiveUpAfter = 30 * time.Minute }))
		h.online = nil
		h.one(t, delivery("a", 1))
		h.sweepUntil(t, 1)
		if c := h.mail.last(t); c.Outcome != events.Abandoned || c.Code != "GaveUp" || c.DecidedAt.Sub(c.ReceivedAt) < 30*time.Minute || !c.Durable {
			t.Errorf("result = %+v", c)
		}
	})
}

// TestTwoInstancesGetTheSameBatch at the same moment, over and over.
func TestTwoInstancesGetTheSameBatch(t *testing.T) {
	t.Parallel()
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			l := newDurable()
			one := newHouse(t, keptIn(l))
			one.takes = time.Second
			two := newHouse(t, keptIn(l))
			two.Service = func() *pushing.Service {
				h := newHouse(t, keptIn(l))
				h.broker.takes = time.Second
				return h.Service
			}()
			var wg sync.WaitGroup
			results := make([][]pushing.Result, 2)
			for i, h := range []*house{one, two} {
				wg.Go(func() { results[i] = h.do(t, time.Minute, batch(0, 5)...) })
			}
			wg.Wait()
			outcomes := make(map[events.Outcome]int)
			for _, all := range results {
				for _, r := range all {
					if r.Deferred {
						t.Errorf("given back: %+v", r)
					}
					outcomes[r.Outcome]++
				}
			}
			if outcomes[events.Pushed] != 5 || outcomes[""] != 5 {
				t.Errorf("outcomes = %v, want each message pushed by one instance", outcomes)
			}
		})
	}
}

// away is a ledger that cannot be reached for some time; what it is asked then
// may be done or not, but its answer is lost.
type away struct {
	pushing.Ledger
	mu   sync.Mutex
	till time.Time
	done bool
}

func (l *away) leave(d time.Duration, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.till, l.done = time.Now().Add(d), done
}

var errAway = errors.New("connection refused")

func (l *away) ask(do func() error) error {
	l.mu.Lock()
	isAway, done := time.Now().Before(l.till), l.done
	l.mu.Unlock()
	if !isAway {
		return do()
	}
	if done {
		_ = do()
	}
	return errAway
}

func (l *away) Claim(ctx context.Context, ask pushing.Ask) (c pushing.Claim, err error) {
	err = l.ask(func() error { c, err = l.Ledger.Claim(ctx, ask); return err })
	return c, err
}
func (l *away) MarkSending(ctx context.Context, c pushing.Claim) error {
	return l.ask(func() error { return l.Ledger.MarkSending(ctx, c) })
}
func (l *away) Park(ctx context.Context, c pushing.Claim, after time.Duration, code string) error {
	return l.ask(func() error { return l.Ledger.Park(ctx, c, after, code) })
}
func (l *away) Decide(ctx context.Context, c pushing.Claim, d pushing.Decision) error {
	return l.ask(func() error { return l.Ledger.Decide(ctx, c, d) })
}
func (l *away) Receive(ctx context.Context, ask pushing.Ask, code string) (c pushing.Claim, err error) {
	err = l.ask(func() error { c, err = l.Ledger.Receive(ctx, ask, code); return err })
	return c, err
}

// TestLedgerAwayInTheMiddle: what is given back comes again, nothing is lost or
// doubled, and no push that was answered ends as unknown.
func TestLedgerAwayInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		t.Run(fmt.Sprint("and does what it cannot answer: ", done), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const n = 300
				l := &away{Ledger: newDurable()}
				h := newHouse(t, keptIn(l), paced(10))
				h.takes = 400 * time.Millisecond
				go func() {
					time.Sleep(5 * time.Second)
					l.leave(10*time.Second, done)
				}()
				left := batch(0, n)
				for round := 0; len(left) > 0; round++ {
					if round > 20 {
						t.Fatalf("%d requests are not taken after %d deliveries", len(left), round)
					}
					var again []pushing.Delivery
					for i, r := range h.do(t, 20*time.Second, left...) {
						if r.Deferred {
							again = append(again, left[i])
						}
					}
					left = again
					time.Sleep(time.Second)
				}
				h.sweepUntil(t, n)
				h.onceEach(t, n)
				for _, c := range h.mail.results(t) {
					if c.Outcome != events.Pushed || c.MaybeDuplicate {
						t.Errorf("%s ended as %s, maybeDuplicate %v", c.Request.ID, c.Outcome, c.MaybeDuplicate)
					}
				}
			})
		})
	}
}

// young says of every claim that the ledger may have forgotten.
type young struct{ pushing.Ledger }

func (l young) Claim(ctx context.Context, ask pushing.Ask) (pushing.Claim, error) {
	c, err := l.Ledger.Claim(ctx, ask)
	c.Young, c.MaybeDuplicate = true, true
	return c, err
}

func TestAYoungLedgerSaysSo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keptIn(young{newDurable()}))
	h.one(t, delivery("a", 1))
	if c := h.mail.last(t); c.Outcome != events.Pushed || c.Code != "LedgerYoung" || !c.MaybeDuplicate {
		t.Errorf("result = %+v", c)
	}
}

// coded fails as Redis does when its error says more.
type coded struct{ pushing.Ledger }

func (coded) Claim(context.Context, pushing.Ask) (pushing.Claim, error) {
	return pushing.Claim{}, &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Code: "StateReadOnly", Err: errors.New("a read-only replica answered")}
}

func TestTheLedgersOwnCodeIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, keptIn(coded{newDurable()}))
		if got := h.one(t, delivery("a", 1)); !got.Deferred || got.Code != "StateReadOnly" || len(h.calls) != 0 {
			t.Errorf("result = %+v", got)
		}
	})
}

// forgetful is a ledger that is flushed while a push is under way.
type forgetful struct{ durable }

func (forgetful) Decide(ctx context.Context, c pushing.Claim, d pushing.Decision) error {
	return newDurable().Decide(ctx, c, d)
}

// TestWhatTheLedgerForgotIsToldAllTheSame: nobody else could.
func TestWhatTheLedgerForgotIsToldAllTheSame(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keptIn(forgetful{newDurable()}))
	got := h.one(t, delivery("a", 1))
	if got.Outcome != events.Pushed || h.mail.count() != 1 {
		t.Errorf("result = %+v, %d events", got, h.mail.count())
	}
	h.mail.err = errors.New("away")
	if got := h.one(t, delivery("b", 2)); !got.Deferred || got.Parked {
		t.Errorf("without a sink: %+v, want it given back", got)
	}
}

// poisoned has one record that cannot be read.
type poisoned struct{ durable }

func (l poisoned) Due(ctx context.Context, limit int) ([]pushing.Work, pushing.Backlogged, error) {
	due, left, _ := l.durable.Due(ctx, limit)
	return due, left, errors.New("the record of x cannot be read")
}

// unreachable cannot be asked.
type unreachable struct{ durable }

func (unreachable) Due(context.Context, int) ([]pushing.Work, pushing.Backlogged, error) {
	return nil, pushing.Backlogged{}, &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Err: errors.New("away")}
}

func TestASweepGoesOnBesideABadRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, keptIn(poisoned{newDurable()}))
		h.do(t, time.Second, batch(0, 3)...)
		time.Sleep(time.Minute)
		if got := h.sweep(t, time.Minute); got.Outcomes[events.Pushed] != 3 || got.Problem == "" {
			t.Errorf("report = %+v", got)
		}
		if got := h.sweep(t, time.Minute); got.Taken != 0 || got.Problem == "" {
			t.Errorf("report of a sweep with nothing else to do = %+v", got)
		}
		away := newHouse(t, keptIn(unreachable{newDurable()}))
		if got := away.do(t, time.Minute, pushing.Delivery{Sweep: &events.Sweep{}})[0]; !got.Deferred || got.Code != "LedgerUnavailable" {
			t.Errorf("a sweep without its ledger = %+v, want it given back", got)
		}
	})
}
