package quota_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
)

// window is the quota as the server keeps it: limit calls in any span of time
// (sliding) or in each span of its own clock (fixed). Refused calls do not
// count.
type window struct {
	limit int
	span  time.Duration
	fixed bool
}

var (
	sliding10 = window{limit: 10, span: time.Second}
	fixed10   = window{limit: 10, span: time.Second, fixed: true}
	sliding60 = window{limit: 600, span: time.Minute}
	fixed60   = window{limit: 600, span: time.Minute, fixed: true}
)

// server judges calls against a window and keeps the score.
type server struct {
	window
	phase time.Duration

	mu       sync.Mutex
	accepted []time.Time // within the window
	scores   map[string]*score
	warmUp   time.Time // calls before it are not scored
}

// score counts one party's calls. Utilisation is the accepted calls but the
// first, divided by what the quota admits between the arrival of the first and
// of the last call (accepted or not): a party that never waits and is never
// refused reaches 1.
type score struct {
	accepted, refused int
	first, last       time.Time
}

func (s score) utilisation(w window) float64 {
	return float64(s.accepted-1) / (w.qps() * s.last.Sub(s.first).Seconds())
}

func (s score) throttled() float64 {
	return float64(s.refused) / float64(max(1, s.accepted+s.refused))
}

func (s *server) call(party string) pushing.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	start := now.Add(-s.span)
	if s.fixed {
		start = now.Add(-s.phase).Truncate(s.span).Add(s.phase - 1)
	}
	s.accepted = slices.DeleteFunc(s.accepted, func(t time.Time) bool { return !t.After(start) })
	verdict := pushing.Throttling
	if len(s.accepted) < s.limit {
		s.accepted = append(s.accepted, now)
		verdict = pushing.Accepted
	}
	if now.Before(s.warmUp) {
		return verdict
	}
	sc := s.scores[party]
	if sc == nil {
		sc = &score{first: now}
		s.scores[party] = sc
	}
	sc.last = now
	if verdict == pushing.Accepted {
		sc.accepted++
	} else {
		sc.refused++
	}
	return verdict
}

// scenario is one run of pushes against a server.
type scenario struct {
	window
	jitter   time.Duration // 0..jitter on the way to the server
	listener time.Duration // how long an accepted call takes to answer
	calls    int           // that must be accepted
	pacers   int           // sharing one store; zero means 1
	warmUp   time.Duration // at the start, not scored
	dying    int           // of the pacers, 5 s after the start, with the slots they have booked
	// open makes the store of the next pacer; nil: all share one in memory.
	open func(qps float64) quota.Store

	neighbour      float64       // calls a second, evenly spaced
	neighbourUntil time.Duration // zero: to the end
	burst          int           // calls of somebody else, 10 s after the start
}

const inFlight = 150 // REPUSH_CONCURRENCY

type outcome struct {
	ours, theirs score
	bookings     int   // asked of the store
	byPacer      []int // accepted calls
	took         time.Duration
}

func (sc scenario) run(t *testing.T, seed uint64) (out outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { out = sc.play(t, seed) })
	return out
}

// play runs the scenario by whatever clock there is.
func (sc scenario) play(tb testing.TB, seed uint64) (out outcome) {
	if sc.open == nil {
		shared := quota.NewMemory(sc.qps(), nil)
		sc.open = func(float64) quota.Store { return shared }
	}
	random := &lockedRand{r: rand.New(rand.NewPCG(seed, 1))}
	srv := &server{window: sc.window, phase: random.upTo(sc.span), scores: map[string]*score{}, warmUp: time.Now().Add(sc.warmUp)}
	began := time.Now()
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { sc.playNeighbour(srv, random, stop) })

	var ours sync.WaitGroup
	var todo atomic.Int64
	todo.Store(int64(sc.calls))
	byPacer := make([]atomic.Int64, max(1, sc.pacers))
	for i := range byPacer {
		store := &mortalStore{countingStore: countingStore{Store: sc.open(sc.qps())}}
		life, die := context.WithCancel(tb.Context())
		defer die()
		if i < sc.dying {
			time.AfterFunc(5*time.Second, func() {
				store.dead.Store(true)
				die()
			})
		}
		pacer := quota.NewPacer(store, nil)
		for range min(inFlight, sc.calls/len(byPacer)) {
			ours.Go(func() {
				for todo.Add(-1) >= 0 {
					if !sc.serve(life, pacer, srv, random) {
						todo.Add(1)
						if life.Err() == nil {
							tb.Error("a living process got no slot")
						}
						return
					}
					byPacer[i].Add(1)
				}
			})
		}
		defer func() { out.bookings += int(store.books.Load()) }()
	}
	ours.Wait()
	close(stop)
	others.Wait()
	out.took = time.Since(began)
	for i := range byPacer {
		out.byPacer = append(out.byPacer, int(byPacer[i].Load()))
	}
	if s := srv.scores["ours"]; s != nil {
		out.ours = *s
	}
	if s := srv.scores["theirs"]; s != nil {
		out.theirs = *s
	}
	return out
}

func (w window) qps() float64 { return float64(w.limit) / w.span.Seconds() }

// serve calls until it is accepted; false: there was no slot. A call takes 10 ms
// and the jitter.
func (sc scenario) serve(ctx context.Context, p *quota.Pacer, srv *server, random *lockedRand) bool {
	for {
		slot, err := book(ctx, p, events.PriorityAlert)
		if err != nil {
			return false
		}
		time.Sleep(random.upTo(200*time.Microsecond) + 5*time.Millisecond + random.upTo(sc.jitter))
		verdict := srv.call("ours")
		time.Sleep(5 * time.Millisecond)
		if verdict == pushing.Accepted {
			time.Sleep(sc.listener)
		}
		slot.Report(verdict)
		if verdict == pushing.Accepted {
			return true
		}
	}
}

func (sc scenario) playNeighbour(srv *server, random *lockedRand, stop <-chan struct{}) {
	began := time.Now()
	every := time.Hour
	if sc.neighbour > 0 {
		every = time.Duration(float64(time.Second) / sc.neighbour)
		time.Sleep(random.upTo(every))
	}
	if sc.burst > 0 {
		time.Sleep(10 * time.Second)
		for range sc.burst {
			srv.call("burst")
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if sc.neighbour > 0 && (sc.neighbourUntil == 0 || time.Since(began) < sc.neighbourUntil) {
			srv.call("theirs")
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

// upTo is uniform from 0 to d.
func (l *lockedRand) upTo(d time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.r.Float64() * float64(d))
}

// TestQuotaLines holds the figures of design.md section 9 over several seeds.
func TestQuotaLines(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	cases := map[string]struct {
		scenario
		atLeast float64 // utilisation of every seed
		atMost  float64 // throttled share of every seed
	}{
		"sliding, no jitter":                  {scenario{window: sliding10, calls: 400}, .98, .005},
		"sliding, 5 ms":                       {scenario{window: sliding10, calls: 400, jitter: 5 * ms}, .98, .005},
		"sliding, 50 ms":                      {scenario{window: sliding10, calls: 400, jitter: 50 * ms}, .94, .005},
		"sliding, 5 ms, listener 4 s":         {scenario{window: sliding10, calls: 400, jitter: 5 * ms, listener: 4 * time.Second}, .93, .005},
		"sliding, 50 ms, listener 4 s":        {scenario{window: sliding10, calls: 400, jitter: 50 * ms, listener: 4 * time.Second}, .93, .005},
		"sliding, 5 ms, listener 14 s":        {scenario{window: sliding10, calls: 400, jitter: 5 * ms, listener: 14 * time.Second}, .93, .005},
		"fixed, no jitter":                    {scenario{window: fixed10, calls: 400}, .98, .005},
		"fixed, 5 ms":                         {scenario{window: fixed10, calls: 400, jitter: 5 * ms}, .98, .005},
		"fixed, 50 ms":                        {scenario{window: fixed10, calls: 400, jitter: 50 * ms}, .94, .005},
		"fixed, 50 ms, listener 4 s":          {scenario{window: fixed10, calls: 400, jitter: 50 * ms, listener: 4 * time.Second}, .93, .005},
		"sliding 600 a minute, 5 ms":          {scenario{window: sliding60, calls: 1500, jitter: 5 * ms}, .98, .005},
		"fixed 600 a minute, 50 ms":           {scenario{window: fixed60, calls: 1500, jitter: 50 * ms}, .98, .005},
		"four processes, one store, 5 ms":     {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 4}, .97, .005},
		"four processes, one store, 50 ms":    {scenario{window: sliding10, calls: 400, jitter: 50 * ms, pacers: 4}, .93, .005},
		"twenty processes, one store, 5 ms":   {scenario{window: sliding10, calls: 400, jitter: 5 * ms, pacers: 20}, .96, .005},
		"1,000 a second, sliding, 5 ms":       {scenario{window: window{limit: 1000, span: time.Second}, calls: 5000, jitter: 5 * ms}, .97, .005},
		"one in two seconds, sliding, 50 ms":  {scenario{window: window{limit: 5, span: 10 * time.Second}, calls: 200, jitter: 50 * ms}, .97, .005},
		"sliding, after a neighbour has left": {scenario{window: sliding10, calls: 3000, jitter: 5 * ms, warmUp: time.Minute, neighbour: 2, neighbourUntil: time.Minute}, .92, .005},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			worst := outcome{}
			worstUse, worstThrottled, bookings := 1.0, 0.0, 0
			for seed := range uint64(seeds) {
				o := c.run(t, seed)
				worstUse = min(worstUse, o.ours.utilisation(c.window))
				worstThrottled = max(worstThrottled, o.ours.throttled())
				bookings = max(bookings, o.bookings)
				worst = o
			}
			t.Logf("quota used >= %.2f %%, throttled <= %.2f %%, bookings per push <= %.2f (last run took %v)",
				100*worstUse, 100*worstThrottled, float64(bookings)/float64(c.calls), worst.took.Round(time.Second))
			if worstUse < c.atLeast {
				t.Errorf("quota used %.4f, want at least %.4f", worstUse, c.atLeast)
			}
			if perPush := float64(bookings) / float64(c.calls); perPush > 3 || c.pacers == 0 && perPush > 1.05 {
				t.Errorf("%.2f bookings per push, want one, or up to three where processes compete", perPush)
			}
			if worstThrottled > c.atMost {
				t.Errorf("throttled %.4f, want at most %.4f", worstThrottled, c.atMost)
			}
		})
	}
}

const seeds = 5

// TestBesideANeighbour: after the first minute beside an evenly spaced
// neighbour at 2/s, at most 4 % of our calls are refused, less than 5 % of
// theirs, and we still use most of what is left.
func TestBesideANeighbour(t *testing.T) {
	t.Parallel()
	for _, w := range []window{sliding10, fixed10} {
		for _, jitter := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
			t.Run(fmt.Sprintf("fixed %v, jitter %v", w.fixed, jitter), func(t *testing.T) {
				t.Parallel()
				sc := scenario{window: w, calls: 2500, jitter: jitter, warmUp: time.Minute, neighbour: 2}
				for seed := range uint64(3) {
					o := sc.run(t, seed)
					use, ours, theirs := o.ours.utilisation(w), o.ours.throttled(), o.theirs.throttled()
					t.Logf("seed %d: quota used %.1f %% of 80, ours refused %.2f %%, theirs %.2f %%", seed, 100*use, 100*ours, 100*theirs)
					if ours > .04 || theirs >= .05 || use < .70 || o.theirs.accepted == 0 {
						t.Errorf("used %.3f, ours refused %.4f, theirs %.4f of %d; want >= .70, <= .04, < .05", use, ours, theirs, o.theirs.accepted)
					}
				}
			})
		}
	}
}

// TestEmptiedWindow: somebody uses up the rest of a minute's quota at once. The
// pacer closes, probes a few times and is back at full pace when the window has
// room, instead of running against the wall or learning a slow pace.
func TestEmptiedWindow(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]window{"fixed": fixed60, "sliding": sliding60} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2) {
				o := scenario{window: w, calls: 1200, jitter: 5 * time.Millisecond, burst: 500}.run(t, seed)
				t.Logf("seed %d: took %v, refused %d", seed, o.took.Round(time.Second), o.ours.refused)
				if o.ours.refused > 40 || o.ours.refused < 3 {
					t.Errorf("seed %d: %d refused, want 3 to 40", seed, o.ours.refused)
				}
				// 1,700 calls at 600 a minute, the burst's 500 paid once.
				if o.took > 210*time.Second {
					t.Errorf("seed %d: took %v, want at most 210 s", seed, o.took)
				}
			}
		})
	}
}
