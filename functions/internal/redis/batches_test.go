package redis

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// roundTrip is how long a batch is under way in these tests.
const roundTrip = 3 * time.Millisecond

// trial records when which calls were sent.
type trial struct {
	batches
	begin time.Time
	sizes []int
	times []time.Duration
	order []string
}

func newTrial() *trial {
	r := &trial{begin: time.Now()}
	r.later = laterWait
	r.send = func(batch []*call) {
		r.sizes = append(r.sizes, len(batch))
		r.times = append(r.times, time.Since(r.begin))
		time.Sleep(roundTrip)
		for _, c := range batch {
			r.order = append(r.order, c.script)
		}
	}
	return r
}

func (r *trial) expect(t *testing.T, sizes []int, times ...time.Duration) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(r.sizes, sizes) || !slices.Equal(r.times, times) {
		t.Errorf("batches of %v at %v, want %v at %v", r.sizes, r.times, sizes, times)
	}
}

// settle lets all that is queued or on its way end.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestBatches(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, run := range map[string]func(t *testing.T, r *trial){
		"one alone goes at once": func(t *testing.T, r *trial) {
			r.add(&call{}, true)
			synctest.Wait()
			r.expect(t, []int{1}, 0)
		},
		"what comes while one is on its way goes together, in order, 128 at most": func(t *testing.T, r *trial) {
			r.add(&call{script: "0"}, true)
			synctest.Wait()
			want := []string{"0"}
			for i := range 200 {
				c := &call{script: string(rune('A' + i))}
				want = append(want, c.script)
				r.add(c, i%2 == 0)
			}
			settle()
			r.expect(t, []int{1, 128, 72}, 0, roundTrip, 2*roundTrip)
			if !slices.Equal(r.order, want) {
				t.Errorf("order = %q", r.order)
			}
		},
		"later alone goes after 10 ms, once": func(t *testing.T, r *trial) {
			r.add(&call{}, false)
			time.Sleep(4 * ms)
			r.add(&call{}, false)
			settle()
			r.expect(t, []int{2}, laterWait)
		},
		"later travels with the next": func(t *testing.T, r *trial) {
			r.add(&call{}, false)
			time.Sleep(4 * ms)
			r.add(&call{}, true)
			settle()
			r.expect(t, []int{2}, 4*ms)
		},
		"later waits for company though a batch comes back": func(t *testing.T, r *trial) {
			r.add(&call{}, true)
			synctest.Wait()
			r.add(&call{}, false)
			time.Sleep(roundTrip + ms)
			r.add(&call{}, true)
			settle()
			r.expect(t, []int{1, 2}, 0, roundTrip+ms)
		},
		"later waits anew after it travelled": func(t *testing.T, r *trial) {
			r.add(&call{}, false)
			r.add(&call{}, true)
			time.Sleep(5 * ms)
			r.add(&call{}, false)
			settle()
			r.expect(t, []int{2, 1}, 0, 5*ms+laterWait)
		},
		"later is due while a batch is on its way": func(t *testing.T, r *trial) {
			r.add(&call{}, false)
			time.Sleep(laterWait - ms)
			r.queue[0].script = "first"
			r.add(&call{}, true)
			synctest.Wait()
			r.add(&call{}, false)
			settle()
			r.expect(t, []int{2, 1}, laterWait-ms, 2*laterWait-ms)
		},
		"draining sends what waits at once and takes no more": func(t *testing.T, r *trial) {
			r.add(&call{}, false)
			for range 2 {
				if !r.drain(time.Second) {
					t.Error("not drained")
				}
			}
			r.expect(t, []int{1}, 0)
			if r.add(&call{}, true) || r.add(&call{}, false) {
				t.Error("taken after the drain")
			}
		},
		"draining gives up in time": func(t *testing.T, r *trial) {
			r.add(&call{}, true)
			if r.drain(roundTrip - ms) {
				t.Error("drained before the answer came")
			}
			if got := time.Since(r.begin); got != roundTrip-ms {
				t.Errorf("gave up after %v", got)
			}
		},
		"draining nothing": func(t *testing.T, r *trial) {
			if !r.drain(ms) {
				t.Error("not drained")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				run(t, newTrial())
				settle()
			})
		})
	}
}

// TestNothingRunsWhileNothingIsQueued: the bubble of synctest ends only when no
// goroutine is left, and r is not closed.
func TestNothingRunsWhileNothingIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newTrial()
		for i := range 50 {
			r.add(&call{}, i%3 == 0)
			time.Sleep(time.Duration(i%7) * time.Millisecond)
		}
		settle()
		if r.sending || r.timer != nil || len(r.queue) != 0 || len(r.order) != 50 {
			t.Errorf("sending %v, timer %v, %d queued, %d answered", r.sending, r.timer, len(r.queue), len(r.order))
		}
	})
}
