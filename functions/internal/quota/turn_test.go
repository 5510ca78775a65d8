package quota_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
)

// TestLateWakeUp: a process that sleeps through its slots books others; those
// it missed are neither called late nor made up for in a burst.
func TestLateWakeUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		qps    float64
		frozen time.Duration
		rebook bool
	}{
		"a little late":                    {10, spacing / 2, false},
		"frozen":                           {10, time.Hour, true},
		"a timer's grain at a high rate":   {1000, 5 * time.Millisecond, false},
		"frozen for a moment at that rate": {1000, 50 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				clock := &skewedClock{}
				store := &hookedStore{Store: quota.NewMemory(c.qps, clock.now)}
				p := quota.NewPacer(store, clock.now)
				mustBook(t, p)
				var calls sync.WaitGroup
				var mu sync.Mutex
				var at []time.Time
				for range 20 {
					calls.Go(func() {
						slot := mustBook(t, p)
						mu.Lock()
						at = append(at, clock.now())
						mu.Unlock()
						slot.Report(pushing.Accepted)
					})
				}
				synctest.Wait()
				clock.freeze(c.frozen)
				calls.Wait()
				slices.SortFunc(at, time.Time.Compare)
				for i := range at[1:] {
					if apart := at[i+1].Sub(at[i]); c.rebook && apart < time.Duration(float64(time.Second)/c.qps) {
						t.Errorf("calls %d and %d are %v apart, want at least 1/QPS", i, i+1, apart)
					}
				}
				if missed := slices.Contains(store.reports, pushing.Unused); missed != c.rebook {
					t.Errorf("slots given back: %v, want %v", missed, c.rebook)
				}
			})
		})
	}
}

// TestSlowStore: a process that slept while the store answered does not know
// when its slot is.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := true
		store := &hookedStore{Store: quota.NewMemory(10, nil)}
		store.hook = func() error {
			if slow {
				slow = false
				time.Sleep(quota.Horizon + 1)
			}
			return nil
		}
		mustBook(t, quota.NewPacer(store, nil)).Report(pushing.Accepted)
		if d := cmp.Diff([]pushing.Verdict{pushing.Unused, pushing.Accepted}, store.reports); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}

// TestStoreAway: a store that fails gives its error to the caller, and the
// pacer goes on when it is back.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("connection refused")
		store := &hookedStore{Store: quota.NewMemory(10, nil), hook: func() error { return away }}
		p := quota.NewPacer(store, nil)
		turn := mustTurn(t, p, "")
		if _, err := turn.Book(t.Context()); !errors.Is(err, away) || err.Error() != "quota: book a slot: connection refused" {
			t.Errorf("Book = %v, want the store's error", err)
		}
		turn.Release()
		store.hook = nil
		mustBook(t, p)
	})
}

// TestReportCountsOnce: a second report would give back somebody else's slot.
func TestReportCountsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &hookedStore{Store: quota.NewMemory(10, nil)}
		slot := mustBook(t, quota.NewPacer(store, nil))
		slot.Report(pushing.Accepted)
		slot.Report(pushing.Unused)
		if d := cmp.Diff([]pushing.Verdict{pushing.Accepted}, store.reports); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}
