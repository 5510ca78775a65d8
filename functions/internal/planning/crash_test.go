package planning_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// mortal counts the steps of a process that leave something behind, and ends it
// before or after one of them: from then on nothing it does has an effect.
type mortal struct {
	mu    sync.Mutex
	steps int
	dies  int // at this step; 0: never
	after bool
	dead  bool
}

func (m *mortal) step(do func() error) error {
	m.mu.Lock()
	if m.dead {
		m.mu.Unlock()
		return errAway
	}
	m.steps++
	m.dead = m.steps == m.dies
	does := !m.dead || m.after
	dead := m.dead
	m.mu.Unlock()
	err := errAway
	if does {
		err = do()
	}
	if dead {
		err = errAway
	}
	return err
}

type mortalDocuments struct {
	planning.Documents
	*mortal
}

func (m mortalDocuments) Save(ctx context.Context, key string, version int64, doc []byte, keep, due time.Duration) (saved int64, err error) {
	err = m.step(func() error {
		saved, err = m.Documents.Save(ctx, key, version, doc, keep, due)
		return err
	})
	return saved, err
}

type mortalEmitter struct {
	pushing.Emitter
	*mortal
}

func (m mortalEmitter) Send(ctx context.Context, batch ...events.Event) error {
	return m.step(func() error { return m.Emitter.Send(ctx, batch...) })
}

// TestKilledAnywhere: whichever step a process dies before or after, and the
// next one too, each request is sent, under one id, and counted once, though it was
// pushed before the next life; and the incident has one manifest.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	trial := func(t *testing.T, source events.Selection, deaths []int, after bool) (steps int) {
		h := lagging(t, true)
		h.policy.GroupBudget = 160 // more than one reservation's worth, less than two
		for n := 20; n < 160; n++ {
			h.bury(n, 20*time.Hour-time.Duration(n)*time.Second, time.Hour)
		}
		want := 140
		if source == events.Unconsumed {
			want = 3
		}
		ports := h.ports
		for _, dies := range append(deaths, 0) {
			m := &mortal{dies: dies, after: after}
			h.ports = ports
			h.ports.Documents = mortalDocuments{ports.Documents, m}
			h.ports.Results, h.ports.Requests = mortalEmitter{ports.Results, m}, mortalEmitter{ports.Requests, m}
			h.restart()
			h.do(t, alarm(source)) // the platform delivers it again
			steps = max(steps, m.steps)
			h.push(t)
			time.Sleep(6 * time.Minute) // the lease of the one that died ends
			h.bury(1000+dies, 20*time.Hour, time.Minute)
		}
		last := h.report(t, alarm(source))
		seen := make(map[string]bool)
		operations := make(map[string]bool)
		for _, r := range h.requested.requests(t) { // one of each id
			if seen[r.MsgID] {
				t.Fatalf("deaths at %v (after: %t): %s is asked for under two ids", deaths, after, r.MsgID)
			}
			seen[r.MsgID], operations[r.OperationID] = true, true
		}
		plans := h.results.plans(t)
		if len(seen) < want || len(operations) != 1 || len(plans) != 1 || plans[0].Count != len(seen) || !operations[last.OperationID] {
			t.Fatalf("deaths at %v (after: %t): %d messages, %d operations, %d manifests", deaths, after, len(seen), len(operations), len(plans))
		}
		if counted, spent := h.counted(t); counted != len(seen) || spent != len(seen) {
			t.Fatalf("deaths at %v (after: %t): %d requests, %d are counted, and %d of the budget are spent", deaths, after, len(seen), counted, spent)
		}
		return steps
	}
	trials := 0
	for _, source := range []events.Selection{events.DeadLetters, events.Unconsumed} {
		for _, after := range []bool{false, true} {
			steps := 1
			for first := 1; first <= steps; first++ {
				for _, second := range []int{0, 1, 3} {
					synctest.Test(t, func(t *testing.T) {
						deaths := []int{first}
						if second > 0 {
							deaths = append(deaths, second)
						}
						steps = max(steps, trial(t, source, deaths, after))
						trials++
					})
				}
			}
			if steps < 5 {
				t.Errorf("%s: only %d steps", source, steps)
			}
		}
	}
	t.Logf("%d trials", trials)
}

// TestTwoWorkers: two processes that get the alert at the same moment make one
// manifest of it, and one request each.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	for range 20 {
		h := newHouse(t)
		for n := range 200 {
			h.bury(n, 20*time.Hour, time.Hour)
		}
		var wg sync.WaitGroup
		results := make([]pushing.Result, 4)
		for i := range results {
			s := planning.NewService(h.policy, h.ports)
			wg.Go(func() { results[i] = s.Handle(t.Context(), "i", []pushing.Delivery{alarm(events.DeadLetters)})[0] })
		}
		wg.Wait()
		plans := h.results.plans(t)
		if len(plans) != 1 || len(h.requested.requests(t)) != 200 || h.requested.batches != 2 {
			t.Fatalf("%d manifests, %d requests in %d batches: %+v", len(plans), len(h.requested.requests(t)), h.requested.batches, results)
		}
	}
}

// TestSlowWorker: one that wakes up after its lease finds that another has the
// incident, and leaves it alone; the manifest of the first is used.
func TestSlowWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		slept := false
		h.meddle = func(int, planning.Query, *planning.Page) error {
			if slept {
				return nil
			}
			slept = true
			h.mu.Unlock()
			time.Sleep(5 * time.Minute) // frozen
			h.mu.Lock()
			return nil
		}
		var slow pushing.Result
		done := make(chan struct{})
		go func() {
			defer close(done)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			slow = h.Handle(ctx, "slow", []pushing.Delivery{alarm(events.DeadLetters)})[0]
		}()
		time.Sleep(2 * time.Minute)
		h.bury(2, 20*time.Hour, time.Minute)
		if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 2 {
			t.Errorf("the other worker: %+v", got)
		}
		<-done
		if len(h.results.plans(t)) != 1 || len(h.requested.requests(t)) != 2 || slow.Outcome != "" || h.requested.batches != 1 || h.results.batches != 1 {
			t.Errorf("the slow one: %+v", slow)
		}
	})
}

// sleepy is a ledger that sleeps longer than a lease when it is asked something for
// the first time.
type sleepy struct {
	ledger.Memory
	asked string
	slept *atomic.Bool
}

func (s sleepy) sleep(asked string) {
	if asked == s.asked && !s.slept.Swap(true) {
		time.Sleep(15 * time.Minute)
	}
}

func (s sleepy) Due(ctx context.Context, limit int) ([]pushing.Work, pushing.Backlogged, error) {
	s.sleep("Due")
	return s.Memory.Due(ctx, limit)
}

func (s sleepy) Progress(ctx context.Context, operation string) (pushing.Progress, error) {
	s.sleep("Progress")
	return s.Memory.Progress(ctx, operation)
}

// TestSlowWorkerPastTheSelection: one that wakes up while another one, to whom the
// incident went, waits in the middle of it, neither changes the manifest nor sends.
func TestSlowWorkerPastTheSelection(t *testing.T) {
	for _, asked := range []string{"Due", "Progress"} { // its list is made, or is being sent
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			for n := range 150 {
				h.bury(n, 20*time.Hour, time.Hour)
			}
			h.ports.Work = sleepy{h.ledger, asked, new(atomic.Bool)}
			sink := &mortal{dies: 2}
			h.ports.Requests = mortalEmitter{h.requested, sink}
			h.restart()
			var slow pushing.Result
			done := make(chan struct{})
			go func() {
				defer close(done)
				slow = h.Handle(context.Background(), "slow", []pushing.Delivery{alarm(events.DeadLetters)})[0]
			}()
			time.Sleep(11 * time.Minute)
			h.bury(150, 21*time.Hour, time.Minute) // comes first, if the other worker makes the list
			if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 128 || got.Code != planning.CodeSink {
				t.Errorf("%s: the other worker: %+v", asked, got)
			}
			sink.mu.Lock()
			sink.dead = false
			sink.mu.Unlock()
			<-done
			if slow.Code != planning.CodeInProgress || len(h.requested.sent) != 128 {
				t.Errorf("%s: the slow one: %+v, %d requests", asked, slow, len(h.requested.sent))
			}
			h.sweep(t)
			plans := h.results.plans(t)
			all := h.requested.requests(t)
			if len(plans) != 1 || h.results.batches != 1 || len(h.requested.sent) != plans[0].Count || len(all) != plans[0].Count || all[len(all)-1].OperationID != plans[0].OperationID {
				t.Errorf("%s: %d manifests in %d batches, %d events, %d requests", asked, len(plans), h.results.batches, len(h.requested.sent), len(all))
			}
		})
	}
}

// TestListenerThatFailsForEver: alerts every minute for three days, or once a day for
// three weeks, and every push makes a dead letter of a new id. The budget holds in any 24 hours, and the
// loop ends until a person plans.
func TestListenerThatFailsForEver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		dead, budget, limit int
		lost                bool
		every               time.Duration
	}{
		"many":                        {dead: 1_500, budget: 1_000, limit: 1_000, every: time.Minute},
		"small":                       {dead: 500, budget: 100, limit: 40, every: time.Minute},
		"the sink's answers are lost": {dead: 500, budget: 100, limit: 40, lost: true, every: time.Minute},
		"alerts once a day":           {dead: 500, budget: 100, limit: 100, every: 24*time.Hour + time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.GroupBudget, p.Limit = test.budget, test.limit })
			for n := range test.dead {
				h.bury(n, time.Hour, time.Minute)
			}
			if test.lost {
				h.ports.Requests = deaf{h.requested}
				h.restart()
			}
			next := test.dead
			var times []time.Time // of every request
			var plans int
			push := func() { // the listener takes five minutes of retries to fail for good
				pushed := h.push(t)
				for range pushed {
					times = append(times, time.Now())
					h.bury(next, 0, 0)
					next++
				}
				if pushed > 0 {
					plans++
				}
			}
			for began := time.Now(); time.Since(began) < max(3*24*time.Hour, 21*test.every); time.Sleep(test.every) {
				h.do(t, alarm(events.DeadLetters))
				push()
			}
			for i, at := range times {
				within := 0
				for _, other := range times[i:] {
					if other.Sub(at) < 24*time.Hour {
						within++
					}
				}
				if within > test.budget {
					t.Fatalf("%s: %d pushes within 24 hours", name, within)
				}
			}
			last := times[len(times)-1].Sub(times[0])
			t.Logf("%s: %d pushes in %d plans, the last after %v", name, len(times), plans, last)
			if plans == 0 || plans > 12 || last > 30*time.Hour {
				t.Errorf("%s: the loop does not end", name)
			}
			h.ports.Requests = h.requested
			h.restart()
			h.bury(next, 0, 0)
			next++
			if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 0 {
				t.Errorf("%s: %+v", name, got)
			}
			person := person("by hand", events.Plan{Source: events.DeadLetters})
			if got := h.report(t, person); got.Requests == 0 {
				t.Errorf("%s: a person cannot plan: %+v", name, got)
			}
			push()
			time.Sleep(time.Hour)
			if got := h.report(t, alarm(events.DeadLetters)); got.Requests == 0 {
				t.Errorf("%s: a person planned, and alerts still cannot: %+v", name, got)
			}
		})
	}
}

// deaf takes every event, and its answer never comes.
type deaf struct{ *mailbox }

func (d deaf) Send(ctx context.Context, batch ...events.Event) error {
	_ = d.mailbox.Send(ctx, batch...)
	return context.DeadlineExceeded
}

func number(id string) (n int) {
	_, _ = fmt.Sscanf(id, "%X", &n)
	return n
}

// TestUnansweredHandOver: where no answer of the sink came, and nobody knows of the
// requests, what may have been sent is spent, however the incident ends; and an event
// says that not all of what was announced is known to have been asked for, and why.
func TestUnansweredHandOver(t *testing.T) {
	for name, test := range map[string]struct {
		goesOn          func(t *testing.T, h *house, operation string)
		requests, spent int
		code, says      string
	}{
		"and never does": {func(*testing.T, *house, string) { time.Sleep(72 * time.Hour) }, 0, 128, planning.CodeExpired, "130 of the 130 messages"},
		"but one": {func(t *testing.T, h *house, _ string) {
			h.ports.Requests = mortalEmitter{h.requested, &mortal{dies: 2, after: true}}
			h.restart()
			h.sweep(t)
			time.Sleep(72 * time.Hour)
		}, 128, 130, planning.CodeExpired, "2 of the 130 messages"},
		"cancelled": {func(t *testing.T, h *house, operation string) {
			if err := h.ledger.Order(t.Context(), pushing.OfOperation(operation), pushing.Order{Code: pushing.CodeCancelled}); err != nil {
				t.Fatal(err)
			}
		}, 0, 128, pushing.CodeCancelled, "cancelled"},
		"refused": {func(_ *testing.T, h *house, _ string) {
			h.fail = func(int, string) error {
				return &pushing.Error{Kind: pushing.Refused, Op: planning.OpOnline, Code: "Forbidden.RAM"}
			}
		}, 0, 128, "Forbidden.RAM", planning.OpOnline},
		"forty expire, and then one does": {func(_ *testing.T, h *house, _ string) {
			time.Sleep(12 * time.Hour)
			h.ports.Requests = h.requested
		}, 90, 130, planning.CodeDone, "40 of the 130 messages"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.ports.Requests, h.ports.Histories = deaf{h.requested}, ledger.NewMemory(96*time.Hour, nil)
			h.restart()
			for n := range 130 { // more than are handed over at a time
				age := 20 * time.Hour
				if n < 40 {
					age = 65 * time.Hour
				}
				h.bury(n, age, time.Hour)
			}
			r := h.report(t, alarm(events.DeadLetters))
			time.Sleep(time.Minute)
			test.goesOn(t, h, r.OperationID)
			h.restart()
			h.results.refuse(errAway)
			if s := h.sweep(t); s.Closed != 0 {
				t.Errorf("%s, before it was told: sweep = %+v", name, s)
			}
			h.results.refuse(nil)
			time.Sleep(time.Minute)
			if s := h.sweep(t); s.Closed != 1 {
				t.Errorf("%s: sweep = %+v", name, s)
			}
			if requests, spent := h.counted(t); requests != test.requests || spent != test.spent {
				t.Errorf("%s: %d requests, %d are spent", name, requests, spent)
			}
			plans := h.results.plans(t)
			if last := plans[len(plans)-1]; len(plans) != 2 || last.OperationID != "" || last.IncidentID != plans[0].IncidentID || last.Code != test.code ||
				!strings.Contains(last.Message, test.says) || !strings.Contains(last.Message, r.OperationID) {
				t.Errorf("%s: %d events, the last %+v", name, len(plans), last)
			}
		})
	}
}
