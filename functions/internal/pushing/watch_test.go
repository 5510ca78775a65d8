package pushing_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestFailingOperationPausesItself: after its first fifty outcomes, once, and no
// other operation.
func TestFailingOperationPausesItself(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failing func(n int) bool
		// pausesBy is the request by which it is paused; 0: never.
		pausesBy int
	}{
		"all fail":                    {func(int) bool { return true }, 51},
		"two of three fail":           {func(n int) bool { return n%3 > 0 }, 53},
		"half of them fail":           {func(n int) bool { return n%2 == 0 }, 0},
		"none fails":                  {func(int) bool { return false }, 0},
		"all fail after the first 60": {func(n int) bool { return n > 60 }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(name)
			h := newHouse(t)
			asked := 0
			h.answer = func(int, pushing.Target) (bool, error) {
				if test.failing(asked) {
					return false, failure(pushing.Refused, "BIZ_TOPIC_NOT_FOUND")
				}
				return true, nil
			}
			ask := func() pushing.Result {
				asked++
				time.Sleep(2 * time.Second)
				return h.one(t, delivery(fmt.Sprint("a", asked), asked, inOperation("op")))
			}
			paused := 0
			for range 130 {
				if got := ask(); got.Code == pushing.CodePaused {
					paused = asked
					break
				}
			}
			if (paused > 0) != (test.pausesBy > 0) || paused > test.pausesBy {
				t.Fatalf("paused at request %d, want by %d (0: never)", paused, test.pausesBy)
			}
			if got := h.one(t, delivery("other", 9999, inOperation("other"))); got.Code == pushing.CodePaused {
				t.Errorf("another operation: %+v", got)
			}
			if test.pausesBy == 0 {
				return
			}
			if s := h.status(t, events.Operation{OperationID: "op"}); !slices.Contains(s.Progress.Orders, pushing.CodePaused) {
				t.Errorf("status = %+v, want the order", s.Progress)
			}
			h.operate(t, events.Operation{Action: events.Continue, OperationID: "op"})
			for range 40 { // it still fails, and a person has said so
				if got := ask(); got.Code == pushing.CodePaused {
					t.Fatalf("paused again at request %d, after a person let it continue", asked)
				}
			}
		})
	}
}
