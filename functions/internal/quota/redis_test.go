package quota_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// TestRedisLines: processes that share a quota in Redis, each over a connection
// of its own with 1 ms per round trip, lose at most a point against one process
// in memory, two with twenty processes, and what dead ones had booked.
func TestRedisLines(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	cases := map[string]struct {
		scenario
		atLeast float64 // utilisation of every seed
		atMost  float64 // throttled share of every seed
	}{
		"one process, 5 ms":              {scenario{window: sliding10, calls: 400, jitter: 5 * ms}, .98, .005},
		"four processes, 5 ms":           {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 4}, .97, .005},
		"four processes, fixed window":   {scenario{window: fixed10, calls: 400, jitter: 5 * ms, pacers: 4}, .97, .005},
		"four processes, 50 ms":          {scenario{window: sliding10, calls: 400, jitter: 50 * ms, pacers: 4}, .93, .005},
		"four processes, two die":        {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 4, dying: 2}, .955, .005},
		"twenty processes, 5 ms":         {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 20}, .96, .005},
		"twenty processes, two die":      {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 20, dying: 2}, .955, .005},
		"four processes, listener 4 s":   {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 4, listener: 4 * time.Second}, .93, .005},
		"four processes, 1,000 a second": {scenario{window: window{limit: 1000, span: time.Second}, calls: 1000, jitter: 5 * ms, pacers: 4}, .96, .005},
	}
	redis := redistest.Start(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2) {
				sc := c.scenario
				sc.open = func(qps float64) quota.Store {
					return quota.NewRedis(bubbleWire(t, redis, time.Millisecond), fmt.Sprint(name, seed), qps)
				}
				o := sc.run(t, seed)
				use, throttled, perPush := o.ours.utilisation(c.window), o.ours.throttled(), float64(o.bookings)/float64(c.calls)
				t.Logf("seed %d: quota used %.2f %%, throttled %.2f %%, bookings per push %.2f", seed, 100*use, 100*throttled, perPush)
				if use < c.atLeast || throttled > c.atMost || perPush > 3 {
					t.Errorf("want at least %.3f used, at most %.3f throttled, and 3 bookings per push", c.atLeast, c.atMost)
				}
			}
		})
	}
}

// bubbleWire is a connection whose server lives in the bubble's time.
func bubbleWire(tb testing.TB, redis *redistest.Server, latency time.Duration) *quota.Wire {
	w := quota.DialWire(tb, redis)
	w.Latency, w.Now = latency, func() time.Duration { return time.Duration(time.Now().UnixNano()) }
	return w
}

// TestProcessesShareEvenly: processes that could each use the whole quota get
// even shares, though each is farther from the server than the one before.
func TestProcessesShareEvenly(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	for _, processes := range []int{2, 4, 20} {
		t.Run(fmt.Sprint(processes), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				pushes := make([]atomic.Int64, processes)
				var callers sync.WaitGroup
				for i := range pushes {
					p := quota.NewPacer(quota.NewRedis(bubbleWire(t, redis, time.Duration(i+1)*time.Millisecond), t.Name(), 10), nil)
					for range 40 {
						callers.Go(func() {
							for slot, err := book(ctx, p, ""); err == nil; slot, err = book(ctx, p, "") {
								pushes[i].Add(1)
								time.Sleep(15 * time.Millisecond)
								slot.Report(pushing.Accepted)
							}
						})
					}
				}
				callers.Wait()
				time.Sleep(time.Second) // the last reports are on their way
				var all []int
				sum := 0
				for i := range pushes {
					all = append(all, int(pushes[i].Load()))
					sum += all[i]
				}
				t.Log(all)
				if fair := sum / processes; sum < 590 || slices.Min(all) < fair*2/3 {
					t.Errorf("%d slots in a minute, by process %v; want 590, and at least two thirds of %d each", sum, all, fair)
				}
			})
		})
	}
}

// clocked is a store whose clock the test sets.
type clocked struct {
	*quota.Redis
	now  time.Duration
	wire *quota.Wire
}

func newClocked(t *testing.T, redis *redistest.Server) *clocked {
	c := &clocked{now: 1_795_000_000_123_457 * time.Microsecond, wire: quota.DialWire(t, redis)}
	c.wire.Now = func() time.Duration { return c.now }
	c.Redis = quota.NewRedis(c.wire, t.Name(), 10)
	return c
}

func (c *clocked) book(t *testing.T) (quota.Booking, quota.Outlook) {
	t.Helper()
	b, o, err := c.Book(t.Context(), events.PriorityAlert, quota.Horizon)
	if err != nil {
		t.Fatal(err)
	}
	return b, o
}

// TestRedisClockStepsBack: after a failover to a server whose clock is behind,
// calls go on in their spacing; nobody waits until the clock has caught up.
func TestRedisClockStepsBack(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	for name, step := range map[string]time.Duration{
		"a little": -30 * time.Millisecond, "by seconds": -3 * time.Second, "by an hour": -time.Hour + time.Second, "ahead and back": 0,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClocked(t, redis)
			a, _ := c.book(t)
			b, before := c.book(t)
			if d := (b.At - a.At).Round(time.Microsecond); d != spacing {
				t.Errorf("the second slot is %v after the first, want %v", d, spacing)
			}
			if step == 0 {
				c.now += time.Hour
				b, before = c.book(t)
				step = -time.Hour
			}
			c.now += step
			after, _ := c.book(t)
			if d := (after.At - b.At).Round(time.Microsecond); d != spacing || after.Wait != before.Next {
				t.Errorf("the next slot is %v after the last one and %v away, want %v and %v", d, after.Wait, spacing, before.Next)
			}
			c.now += time.Second
			if late, _ := c.book(t); late.Wait != 0 {
				t.Errorf("a second later the wait is %v, want none: the law's time stands still", late.Wait)
			}
		})
	}
}

// TestRedisForgets: the state is gone after an hour without use, or by a flush;
// then the law starts afresh, whatever is reported of slots from before.
func TestRedisForgets(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newClocked(t, redis)
	key := "ons-repush:{quota:" + t.Name() + "}"
	c.now += time.Hour
	old, _ := c.book(t)
	if keys := redis.Do("KEYS", "*"); keys != "["+key+"]" {
		t.Errorf("keys %s, want only %s", keys, key)
	}
	if ttl := redis.Do("PTTL", key); len(ttl) != len("3599999") {
		t.Errorf("the state expires in %s ms, want an hour", ttl)
	}
	redis.Do("PEXPIRE", key, "500000")
	if _, err := c.Shares(t.Context()); err != nil || len(redis.Do("PTTL", key)) != len("499999") {
		t.Errorf("Shares: %v; it must not keep an unused state alive", err)
	}
	redis.Do("FLUSHALL")
	c.now -= time.Hour // the server that took over knows nothing and is behind
	fresh, _ := c.book(t)
	if fresh.Seq != 1 || fresh.Wait != 0 {
		t.Errorf("after a flush %+v, want the first slot at once", fresh)
	}
	c.Report(old, pushing.Unused, nil)
	if again, _ := c.book(t); again.Wait > spacing {
		t.Errorf("a slot given back from before the flush keeps the next one %v away", again.Wait)
	}
	c.Report(old, pushing.Throttling, nil)
	if _, o := c.book(t); o.Closed {
		t.Error("one refusal from before the flush closed the quota")
	}
}

// TestRedisDifferingQPS: each call takes the room that its own rate says, and
// what was learned counts for all.
func TestRedisDifferingQPS(t *testing.T) {
	t.Parallel()
	fast := newClocked(t, redistest.Start(t))
	slow := &clocked{Redis: quota.NewRedis(fast.wire, t.Name(), 5)}
	var at []time.Duration
	for _, c := range []*clocked{fast, slow, fast} {
		b, _ := c.book(t)
		at = append(at, (b.At - fast.now).Round(time.Microsecond))
	}
	if d := cmp.Diff([]time.Duration{0, spacing, 3 * spacing}, at); d != "" {
		t.Errorf("slots (-want +got):\n%s", d)
	}
}

// TestRedisFrozenProcess: a process that slept while the server answered gives
// its slot back and books another.
func TestRedisFrozenProcess(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	synctest.Test(t, func(t *testing.T) {
		frozen := true
		store := &hookedStore{Store: quota.NewRedis(bubbleWire(t, redis, 0), t.Name(), 10)}
		store.hook = func() error {
			if frozen {
				frozen = false
				time.Sleep(time.Minute)
			}
			return nil
		}
		began := time.Now()
		mustBook(t, quota.NewPacer(store, nil)).Report(pushing.Accepted)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("the slot comes after %v, want at once after the minute's sleep", took)
		}
		if d := cmp.Diff([]pushing.Verdict{pushing.Unused, pushing.Accepted}, store.reports); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
		time.Sleep(time.Second) // the last report is on its way
	})
}

// answering is a server that gives one answer.
type answering struct {
	reply any
	err   error
}

func (a answering) Eval(context.Context, string, []string, ...any) (any, error) {
	return a.reply, a.err
}

func (a answering) EvalLater(_ string, _ []string, _ []any, done func(any, error)) {
	done(a.reply, a.err)
}

// TestRedisOddAnswers: what is no answer of the script is an error and teaches
// nothing; the errors of the server pass as they are.
func TestRedisOddAnswers(t *testing.T) {
	t.Parallel()
	away := &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Code: "StateFull"}
	for name, a := range map[string]answering{
		"an error":         {nil, away},
		"nothing":          {nil, nil},
		"too few numbers":  {[]any{"0", "1"}, nil},
		"too many numbers": {slices.Repeat([]any{"1"}, 30), nil},
		"no text":          {slices.Repeat([]any{int64(1)}, 7), nil},
		"no number":        {slices.Repeat([]any{"x"}, 7), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := quota.NewRedis(a, "k", 10)
			_, _, booked := s.Book(t.Context(), "", quota.Horizon)
			_, shared := s.Shares(t.Context())
			for _, err := range []error{booked, shared} {
				if a.err != nil && err != a.err || err == nil || a.err == nil && !strings.Contains(err.Error(), "look for") {
					t.Errorf("error %v, want the server's, or one that says what to look for", err)
				}
			}
			s.Report(quota.Booking{Seq: 1}, pushing.Accepted, func(o quota.Outlook) { t.Errorf("learned %+v", o) })
		})
	}
}
