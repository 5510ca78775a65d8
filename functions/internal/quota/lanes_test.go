package quota_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
)

// TestLanes: of ten contested slots bulk gets at least one and alert two,
// whoever else waits, and a lane is served in order.
func TestLanes(t *testing.T) {
	t.Parallel()
	for name, waiting := range map[string]string{
		"all three":         "hab",
		"alert and bulk":    "ab",
		"human and bulk":    "hb",
		"human and alert":   "ha",
		"empty is alert":    "h-",
		"unheard of, alert": "h?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				order := serve(t, waiting, 40)
				for i := 0; i+10 <= 40; i++ { // no lane has run out by then
					ten := order[i : i+10]
					for _, lane := range waiting {
						least := 2
						if lane == 'b' {
							least = 1
						}
						if n := strings.Count(ten, string(lane)); n < least {
							t.Fatalf("of ten slots %q gets %d, want at least %d: %s", lane, n, least, order)
						}
					}
				}
				if strings.Contains(waiting, "h") && strings.Count(order[:40], "h") < 28 {
					t.Errorf("human gets less than 28 of 40: %s", order)
				}
			})
		})
	}
}

// serve lets each callers wait in each lane and returns the lanes in the order
// of their slots.
func serve(t *testing.T, lanes string, each int) string {
	priority := map[rune]events.Priority{'h': events.PriorityHuman, 'a': events.PriorityAlert, 'b': events.PriorityBulk, '-': "", '?': "urgent"}
	p := quota.NewPacer(quota.NewMemory(1, nil), nil) // one turn at a time
	first := mustTurn(t, p, "")
	var mu sync.Mutex
	var order strings.Builder
	var callers sync.WaitGroup
	next := map[rune]int{}
	for i := range each {
		for _, lane := range lanes {
			callers.Go(func() {
				turn := mustTurn(t, p, priority[lane])
				_, err := turn.Book(t.Context())
				turn.Release()
				mu.Lock()
				defer mu.Unlock()
				if err != nil || next[lane] != i {
					t.Errorf("lane %c: caller %d served as number %d, %v", lane, i, next[lane], err)
				}
				next[lane]++
				order.WriteRune(lane)
			})
			synctest.Wait() // so that they queue in this order
		}
	}
	first.Release()
	callers.Wait()
	return order.String()
}

// TestLanesReachTheStore: a slot is counted in the lane that its turn was
// waited for in.
func TestLanesReachTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := quota.NewMemory(10, nil)
		p := quota.NewPacer(store, nil)
		for _, lane := range []events.Priority{events.PriorityHuman, events.PriorityBulk, events.PriorityBulk, ""} {
			if _, err := book(t.Context(), p, lane); err != nil {
				t.Fatal(err)
			}
		}
		got, err := store.Shares(t.Context())
		want := map[events.Priority]int64{events.PriorityHuman: 1, events.PriorityAlert: 1, events.PriorityBulk: 2}
		if d := cmp.Diff(want, got.ThisMinute); d != "" || err != nil {
			t.Errorf("slots by lane (-want +got), %v:\n%s", err, d)
		}
	})
}
