package run

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// TestOutage: a target that refuses for a while is asked with one request at a time,
// and the run goes on; one that does not come back ends it.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		from, until time.Duration
		decided     int
		ends        time.Duration
		most        int // requests refused
	}{
		"three seconds": {5 * time.Second, 8 * time.Second, 300, 40 * time.Second, 21 + 4},
		"forty":         {5 * time.Second, 45 * time.Second, 300, 80 * time.Second, 21 + 9},
		"for good":      {5 * time.Second, time.Hour, 52, 80 * time.Second, 21 + 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := journal(t, 300)
			synctest.Test(t, func(t *testing.T) {
				began, refused := time.Now(), 0
				f := &function{TB: t, ails: func(string, int) *Answer {
					if since := time.Since(began); since > test.from && since < test.until {
						refused++
						return &Answer{Status: Refused, Why: "later"}
					}
					return nil
				}}
				err := runner(j, f).Run(t.Context(), t.Context())
				c := j.Counts()
				if took := time.Since(began); (err == nil) != (test.decided == 300) || c.Decided < test.decided || c.InDoubt != 0 || took > test.ends || refused > test.most {
					t.Errorf("%v after %s: %+v, %d refused", err, took, c, refused)
				}
			})
		})
	}
}

// TestOneThatIsRefused holds nobody up, though it is the first.
func TestOneThatIsRefused(t *testing.T) {
	t.Parallel()
	j := journal(t, 100)
	synctest.Test(t, func(t *testing.T) {
		f := &function{TB: t, ails: func(id string, _ int) *Answer {
			if id == "r0" {
				return &Answer{Status: Refused, Why: "never"}
			}
			return nil
		}}
		began := time.Now()
		err := runner(j, f).Run(t.Context(), t.Context())
		if c := j.Counts(); err == nil || c.Decided != 99 || c.Open != 1 || time.Since(began) > 100*time.Second {
			t.Errorf("%v after %s: %+v", err, time.Since(began), c)
		}
	})
}

// TestOneThatIsNeverAnswered, at a target that is asked for one at a time and waited for
// longer than an outage is allowed to last: the others are asked for, and why one is in
// doubt is said.
func TestOneThatIsNeverAnswered(t *testing.T) {
	t.Parallel()
	j := journal(t, 20)
	synctest.Test(t, func(t *testing.T) {
		f := &function{TB: t, ails: func(id string, _ int) *Answer {
			if id == "r5" {
				return &Answer{Status: Unanswered, Why: "no answer in time"}
			}
			return nil
		}}
		r := runner(j, f)
		r.Most = 1
		r.Send = func(ctx context.Context, batch []events.Event) []Answer {
			if batch[0].ID == "r5" {
				time.Sleep(outageAllowed + time.Second)
			}
			return f.send(ctx, batch)
		}
		err := r.Run(t.Context(), t.Context())
		if c := j.Counts(); err == nil || !strings.Contains(err.Error(), "no answer in time") || c.Decided != 19 || c.InDoubt != 1 {
			t.Errorf("%v: %+v", err, c)
		}
	})
}

// TestRefusedBesideParked ends: the answers about what is parked do not keep the run at
// what is refused.
func TestRefusedBesideParked(t *testing.T) {
	t.Parallel()
	j := journal(t, 20)
	synctest.Test(t, func(t *testing.T) {
		f := &function{TB: t, ails: func(id string, _ int) *Answer {
			switch id {
			case "r0":
				return &Answer{Status: Refused, Why: "never"}
			case "r1":
				return &Answer{Status: Parked, Why: "nobody is online"}
			}
			return nil
		}}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		r := runner(j, f)
		r.Patience = 5 * time.Minute
		began := time.Now()
		err := r.Run(ctx, t.Context())
		if c := j.Counts(); !errors.Is(err, ErrImpatient) || c.Decided != 18 || time.Since(began) > 10*time.Minute {
			t.Errorf("%v after %s: %+v, %d asked", err, time.Since(began), c, len(f.order))
		}
	})
}

// TestNewsByEvents keeps the patience, and ends the run: what the function's own sweep
// decides while every answer says parked.
func TestNewsByEvents(t *testing.T) {
	t.Parallel()
	j := journal(t, 900)
	synctest.Test(t, func(t *testing.T) {
		requests := j.Requests()
		go func() {
			for _, e := range requests {
				time.Sleep(time.Second)
				if _, err := j.Finish(resultOf(t, e, events.Pushed, events.SourceRepush)); err != nil {
					t.Error(err)
				}
			}
		}()
		f := &function{TB: t, ails: func(string, int) *Answer { return &Answer{Status: Parked, Why: "stopped"} }}
		r := runner(j, f)
		r.Patience = time.Minute
		began := time.Now()
		if err := r.Run(t.Context(), t.Context()); err != nil || time.Since(began) > 905*time.Second {
			t.Errorf("%v after %s: %+v", err, time.Since(began), j.Counts())
		}
		if n := len(f.order); n > 900*15 { // ten a second at most
			t.Errorf("%d were asked", n)
		}
	})
}

// TestOrderOfAResume: what may have been decided already comes first.
func TestOrderOfAResume(t *testing.T) {
	t.Parallel()
	j := journal(t, 6)
	for at, s := range map[int]state{1: parked, 3: begun, 4: begun, 5: handedOver} {
		if err := errors.Join(j.set(at, begun), j.set(at, s)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Finish(resultOf(t, j.Requests()[4], events.Failed, events.SourceRepush)); err != nil {
		t.Fatal(err)
	}
	if got := j.unfinished(); !slices.Equal(got, []int{3, 1, 0, 2}) {
		t.Errorf("order %v", got)
	}
}

// TestRefusedTellsNothingOfBefore: what is in doubt, or parked, from a run before stays so
// when the target refuses to be asked again, or gives the request back.
func TestRefusedTellsNothingOfBefore(t *testing.T) {
	t.Parallel()
	for s, want := range map[Status]error{Refused: nil, GivenBack: ErrImpatient} {
		j := journal(t, 4)
		if err := errors.Join(j.set(0, begun), j.set(1, begun), j.set(1, parked)); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			f := &function{TB: t, ails: func(id string, _ int) *Answer {
				if id == "r3" { // or the target seems not to be there
					return nil
				}
				return &Answer{Status: s, Why: "because"}
			}}
			err := runner(j, f).Run(t.Context(), t.Context())
			if c := j.Counts(); err == nil || want != nil && !errors.Is(err, want) || c.InDoubt != 1 || c.Parked != 1 || c.Open != 1 || c.Decided != 1 || f.asked["r0"] < 3 {
				t.Errorf("%v: %+v, asked %v", err, c, f.asked)
			}
		})
		if c := reopen(t, j).Counts(); c.InDoubt != 1 || c.Parked != 1 || c.Open != 1 {
			t.Errorf("by the state file: %+v", c)
		}
	}
}

// TestLastAnswersAtAnInterrupt: when what was under way was the last, nothing was
// interrupted.
func TestLastAnswersAtAnInterrupt(t *testing.T) {
	t.Parallel()
	j := journal(t, 5)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := runner(j, &function{TB: t, listener: 3 * time.Second}).Run(ctx, t.Context()); err != nil || j.Counts().Decided != 5 {
			t.Errorf("%v: %+v", err, j.Counts())
		}
	})
}

// TestWindow follows the listener: wide while it is slow, narrow again some time after.
func TestWindow(t *testing.T) {
	t.Parallel()
	j := journal(t, 2000)
	synctest.Test(t, func(t *testing.T) {
		f := &function{TB: t, listener: 8 * time.Second}
		var widest, last int
		f.ails = func(id string, _ int) *Answer { // holds f.mu
			switch n := len(f.order); {
			case n < 400:
				widest = max(widest, f.flying)
			case n == 400:
				f.listener = 0
			case n > 1800:
				last = max(last, f.flying)
			}
			return nil
		}
		began := time.Now()
		if err := runner(j, f).Run(t.Context(), t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); widest < 90 || widest > 125 || last > 35 || took > 225*time.Second {
			t.Errorf("%s, %d under way at a slow listener, %d at the end", took, widest, last)
		}
	})
}
