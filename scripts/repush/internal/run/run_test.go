package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
)

// requests are n events, each of a message of its own.
func requests(tb testing.TB, n int) []events.Event {
	tb.Helper()
	all := make([]events.Event, n)
	for i := range all {
		data, err := json.Marshal(events.Requested{InstanceID: "MQ_INST_1_x", Topic: "orders", GroupID: "GID_x", MsgID: fmt.Sprintf("%032X", i), Reason: "r"})
		if err != nil {
			tb.Fatal(err)
		}
		all[i] = events.Event{ID: fmt.Sprint("r", i), Source: "test", Type: events.TypeMessageRequested, Data: data}
	}
	return all
}

// resultOf is the result event of a request, from source.
func resultOf(tb testing.TB, e events.Event, outcome events.Outcome, source string) events.Event {
	tb.Helper()
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	result, err := events.NewCompleted(events.Completed{Request: events.RequestRef{ID: e.ID, Source: e.Source}, Outcome: outcome, ReceivedAt: now, DecidedAt: now})
	if err != nil {
		tb.Fatal(err)
	}
	result.Source = source
	return result
}

func journal(tb testing.TB, n int) *Journal {
	tb.Helper()
	j, err := Create(filepath.Join(tb.TempDir(), "state"), Header{ID: "run-1", Reason: "r", QPS: 10}, requests(tb, n))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Close() })
	return j
}

// function is one with a ledger: ten slots a second, a listener, and what goes wrong.
type function struct {
	testing.TB
	listener time.Duration
	// ails says what becomes of the n-th call for a request instead; nil answers well.
	ails func(id string, n int) *Answer

	mu       sync.Mutex
	slot     time.Time
	asked    map[string]int
	order    []string
	flying   int
	most     int
	pushedAt []time.Time
}

func (f *function) send(ctx context.Context, batch []events.Event) []Answer {
	answers := make([]Answer, len(batch))
	for i, e := range batch {
		answers[i] = f.one(ctx, e)
	}
	return answers
}

func (f *function) one(ctx context.Context, e events.Event) Answer {
	f.mu.Lock()
	if f.asked == nil {
		f.asked = make(map[string]int)
	}
	f.asked[e.ID]++
	f.order = append(f.order, e.ID)
	f.flying++
	f.most = max(f.most, f.flying)
	n := f.asked[e.ID]
	defer func() { f.mu.Lock(); f.flying--; f.mu.Unlock() }()
	if f.ails != nil {
		if a := f.ails(e.ID, n); a != nil {
			f.mu.Unlock()
			return *a
		}
	}
	now := time.Now()
	if f.slot.Before(now) {
		f.slot = now
	}
	wait := f.slot.Sub(now)
	f.slot = f.slot.Add(100 * time.Millisecond)
	wait += f.listener
	f.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return Answer{Status: Unanswered, Why: "cut"}
	}
	f.mu.Lock()
	f.pushedAt = append(f.pushedAt, time.Now())
	f.mu.Unlock()
	return Answer{Status: Decided, Pushed: true, Result: resultOf(f, e, events.Pushed, Source+"inject")}
}

func runner(j *Journal, f *function) Runner {
	return Runner{Journal: j, Send: f.send, Batch: 1, QPS: 10, Most: 150, Patience: 10 * time.Minute}
}

// TestQuotaIsUsed however slow the listener is, with no more under way than that
// needs.
func TestQuotaIsUsed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		listener time.Duration
		most     int
		within   time.Duration
	}{
		"at once":  {0, 21, 41 * time.Second},
		"a second": {time.Second, 35, 45 * time.Second},
		"ten":      {10 * time.Second, 150, 65 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := journal(t, 400)
			synctest.Test(t, func(t *testing.T) {
				f := &function{TB: t, listener: test.listener}
				began := time.Now()
				if err := runner(j, f).Run(t.Context(), t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > test.within || f.most > test.most {
					t.Errorf("took %s with up to %d under way", took, f.most)
				}
				want := Counts{Decided: 400, Outcomes: map[events.Outcome]int{events.Pushed: 400}}
				if diff := cmp.Diff(want, j.Counts()); diff != "" || len(f.order) != 400 {
					t.Errorf("%d asked\n%s", len(f.order), diff)
				}
			})
		})
	}
}

// TestSeenFromTheStart: what is under way shows before the first answer, and at the end
// nothing is.
func TestSeenFromTheStart(t *testing.T) {
	t.Parallel()
	j := journal(t, 3)
	synctest.Test(t, func(t *testing.T) {
		r, inFlight, answered := runner(j, &function{TB: t, listener: 5 * time.Second}), []int{}, 0
		r.Seen = func(n int, answers []Answer) {
			inFlight, answered = append(inFlight, n), answered+len(answers)
		}
		if err := r.Run(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []int{1, 2, 3, 2, 1, 0}; !slices.Equal(inFlight, want) || answered != 3 {
			t.Errorf("%v with %d answers, want %v", inFlight, answered, want)
		}
	})
}

// TestInterrupt: nothing is begun any more, what is under way is waited for, and the
// journal goes on with the rest; a second one waits for nothing and leaves in doubt
// what had no answer.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	j := journal(t, 300)
	synctest.Test(t, func(t *testing.T) {
		f := &function{TB: t, listener: time.Second}
		for i, after := range []time.Duration{5 * time.Second, 7 * time.Second} {
			ctx, stop := context.WithTimeout(t.Context(), after)
			if err := runner(j, f).Run(ctx, t.Context()); !errors.Is(err, ErrInterrupted) || time.Since(f.pushedAt[len(f.pushedAt)-1]) > 0 {
				t.Fatalf("%d: %v", i, err)
			}
			stop()
			if c := j.Counts(); c.InDoubt != 0 || c.Decided != len(f.order) || c.Open != 300-c.Decided || c.Open == 0 {
				t.Fatalf("%d: %+v after %d calls", i, c, len(f.order))
			}
			j = reopen(t, j)
		}
		asked := len(f.order)
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		leave, leaveNow := context.WithTimeout(t.Context(), 3100*time.Millisecond)
		began := time.Now()
		err := runner(j, f).Run(ctx, leave)
		stop()
		leaveNow()
		took := time.Since(began)
		synctest.Wait() // for the calls that were left
		if !errors.Is(err, ErrLeft) || !errors.Is(err, ErrInterrupted) || took > 3200*time.Millisecond {
			t.Errorf("left: %v after %s", err, took)
		}
		c := j.Counts()
		if c.InDoubt == 0 || c.InDoubt != len(j.InDoubt()) || c.Decided+c.InDoubt != len(f.order) || len(f.order) == asked {
			t.Errorf("%+v after %d calls", c, len(f.order))
		}
		doubtful := c.InDoubt
		j = reopen(t, j)
		if err := runner(j, f).Run(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
		twice := 0
		for _, n := range f.asked {
			twice += n - 1
		}
		if c := j.Counts(); c.Decided != 300 || twice != doubtful {
			t.Errorf("%+v, %d were asked for twice, %d were in doubt", c, twice, doubtful)
		}
	})
}

func reopen(t *testing.T, j *Journal) *Journal {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(j.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	if diff := cmp.Diff(j.Counts(), again.Counts()); diff != "" {
		t.Errorf("what was written is not what was known (-known +read):\n%s", diff)
	}
	if diff := cmp.Diff(j.Requests(), again.Requests()); diff != "" {
		t.Errorf("the requests are others (-known +read):\n%s", diff)
	}
	return again
}

// TestAnswers: what becomes of a message by what the target says.
func TestAnswers(t *testing.T) {
	t.Parallel()
	always := func(s Status) func(string, int) *Answer {
		return func(string, int) *Answer { return &Answer{Status: s, Why: "because"} }
	}
	first := func(s Status, times int) func(string, int) *Answer {
		return func(id string, n int) *Answer {
			if n <= times && id == "r3" {
				return &Answer{Status: s, Why: "because"}
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		ails    func(id string, n int) *Answer
		want    Counts
		asked   int // 0: not looked at
		err     error
		says    string
		already bool // something was taken before
	}{
		"parked, then decided":     {ails: first(Parked, 3), want: Counts{Decided: 30}, asked: 33},
		"given back, then decided": {ails: first(GivenBack, 3), want: Counts{Decided: 30}, asked: 33},
		"refused, then taken":      {ails: first(Refused, 3), want: Counts{Decided: 30}, asked: 33},
		"one has no answer":        {ails: first(Unanswered, 1), want: Counts{Decided: 29, InDoubt: 1}, says: "no answer: because", asked: 30},
		"all parked":               {ails: always(Parked), want: Counts{Parked: 30}, err: ErrImpatient, says: "not decided yet; the last answer: because"},
		"all given back":           {ails: always(GivenBack), want: Counts{Open: 30}, err: ErrImpatient, says: "not decided yet; the last answer: because"},
		"handed over":              {ails: always(HandedOver), want: Counts{HandedOver: 30}, asked: 30},
		"refused from the start":   {ails: always(Refused), want: Counts{Open: 30}, says: "the target refuses: because"},
		"never answered":           {ails: always(Unanswered), want: Counts{Open: 9, InDoubt: 21}, says: "no answer: because", asked: 21},
		"gone in the middle": {ails: func(id string, n int) *Answer {
			if id != "r0" && id != "r1" {
				return &Answer{Status: Refused, Why: "because"}
			}
			return nil
		}, want: Counts{Decided: 2, Open: 28}, says: "the target refuses: because"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := journal(t, 30)
			synctest.Test(t, func(t *testing.T) {
				f := &function{TB: t, ails: test.ails}
				err := runner(j, f).Run(t.Context(), t.Context())
				if (err == nil) != (test.err == nil && test.says == "") || test.err != nil && !errors.Is(err, test.err) || test.says != "" && err.Error() != test.says {
					t.Errorf("error %v", err)
				}
				got := j.Counts()
				got.Outcomes = nil
				if name == "never answered" && got.InDoubt < 21 && got.InDoubt+got.Open == 30 { // as many as were under way
					test.want, test.asked = got, 0
				}
				if n := len(f.order); name == "all parked" && n > 30*50 || name == "refused from the start" && n > 25 {
					t.Errorf("asked for %d times", n)
				}
				if diff := cmp.Diff(test.want, got); diff != "" || test.asked != 0 && len(f.order) != test.asked {
					t.Errorf("%d calls (-want +got):\n%s", len(f.order), diff)
				}
			})
		})
	}
}

// TestQueue gets batches, and is asked no more than once for each.
func TestQueue(t *testing.T) {
	t.Parallel()
	j := journal(t, 250)
	var sizes []int
	var mu sync.Mutex
	r := Runner{Journal: j, Batch: 100, QPS: 10, Most: 150, Send: func(_ context.Context, batch []events.Event) []Answer {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(batch))
		answers := make([]Answer, len(batch))
		for i := range answers {
			answers[i] = Answer{Status: HandedOver}
		}
		return answers
	}}
	if err := r.Run(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(sizes)
	if c := j.Counts(); c.HandedOver != 250 || c.Left() != 0 || !slices.Equal(sizes, []int{50, 100, 100}) {
		t.Errorf("%+v in batches of %v", c, sizes)
	}
}

// TestResultsByEvent: what an event has decided is not asked for again, and the
// function's own event is not displaced by one made of an answer.
func TestResultsByEvent(t *testing.T) {
	t.Parallel()
	j := journal(t, 10)
	synctest.Test(t, func(t *testing.T) {
		f := &function{TB: t, ails: func(id string, n int) *Answer {
			if id == "r4" { // the sweep decides it meanwhile
				if news, err := j.Finish(resultOf(t, j.Requests()[4], events.Failed, events.SourceRepush)); err != nil || news != (n == 1) {
					t.Errorf("finish: %v %v", news, err)
				}
				return &Answer{Status: Parked}
			}
			return nil
		}}
		if err := runner(j, f).Run(t.Context(), t.Context()); err != nil || f.asked["r4"] != 1 {
			t.Errorf("%v, asked %d times", err, f.asked["r4"])
		}
	})
	made := resultOf(t, j.Requests()[4], events.Duplicate, Source+"inject")
	stranger := resultOf(t, events.Event{ID: "other", Source: "test"}, events.Pushed, events.SourceRepush)
	for _, e := range []events.Event{made, stranger} {
		if news, err := j.Finish(e); news || err != nil {
			t.Errorf("%s: %v %v", e.ID, news, err)
		}
	}
	if news, err := j.Finish(resultOf(t, j.Requests()[5], events.Unknown, events.SourceRepush)); news || err != nil { // it tells more than the answer did
		t.Errorf("the function's own: %v %v", news, err)
	}
	j = reopen(t, j)
	want := map[events.Outcome]int{events.Pushed: 8, events.Failed: 1, events.Unknown: 1}
	if diff := cmp.Diff(want, j.Counts().Outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
