package pushing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Policy is what the operator decided.
type Policy struct {
	Allow AllowList
	// Concurrency bounds the pushes in flight; at least 1.
	Concurrency int
	OnUnknown   events.OnUnknown
	// MaxPushes bounds accepted and unknown pushes of one message; at least 1.
	MaxPushes   int
	GiveUpAfter time.Duration
	MaxAge      time.Duration
	// PushTimeout bounds one push call.
	PushTimeout time.Duration
}

// Service decides requests. Make one with [NewService]. Safe for concurrent
// use.
type Service struct {
	policy  Policy
	pusher  Pusher
	clients *Clients
	pacer   Pacer
	ledger  Ledger
	emitter Emitter

	// Hint returns what an operator should do about an API error, in one
	// sentence, or "". Set before use.
	Hint func(kind Kind, code string) string
	// Log is told of every request when it is decided, deferred or repeated.
	// It must be safe for concurrent use. Set before use.
	Log func(Line)
	// Draining ends when the process is about to stop: from then on no push is
	// begun, and what is not begun is deferred. nil means never. Set before
	// use.
	Draining context.Context
	// Now and Jitter are the clock and a random number in [0, 1).
	Now    func() time.Time
	Jitter func() float64

	// Describe and Shares tell an operator about this process and its quota, as
	// JSON. Set before use.
	Describe func(ctx context.Context) any
	Shares   func(ctx context.Context) any

	inFlight chan struct{}
	calls    callTimes
	breakers breakers
	watch    watch
}

// Line is what the log says of one request.
type Line struct {
	InvocationID string
	Request      RequestKey
	Data         events.Requested
	Result       Result
	RequestID    string
	Attempts     int
	WaitMs       int64
	CallMs       int64
	// Err is the error behind Result, redacted; nil when there was none.
	Err error
}

// NewService returns a service over its ports. clients may share nothing with
// pacer but the clock: look-ups have a quota of their own.
func NewService(p Policy, pusher Pusher, clients *Clients, pacer Pacer, ledger Ledger, emitter Emitter) *Service {
	return &Service{
		policy: p, pusher: pusher, clients: clients, pacer: pacer, ledger: ledger, emitter: emitter,
		Hint: func(Kind, string) string { return "" }, Log: func(Line) {},
		Describe: func(context.Context) any { return struct{}{} }, Shares: func(context.Context) any { return nil },
		Now: time.Now, Jitter: rand.Float64,
		inFlight: make(chan struct{}, p.Concurrency),
		breakers: breakers{groups: make(map[[2]string]*breaker)},
	}
}

// Handle decides the deliveries of one invocation, concurrently, as far as
// ctx's deadline allows, and returns one result each, in their order. It
// returns in time for the deadline; what is not decided by then is deferred.
// Deliveries of the same message are taken one after the other.
func (s *Service) Handle(ctx context.Context, invocationID string, deliveries []Delivery) []Result {
	results := make([]Result, len(deliveries))
	if len(deliveries) == 1 { // most invocations: no goroutine
		results[0] = s.handle(ctx, invocationID, deliveries[0], nil)
		return results
	}
	var wg sync.WaitGroup
	out := new(outbox)
	for _, same := range byMessage(deliveries) {
		wg.Go(func() {
			for _, i := range same {
				results[i] = s.handle(ctx, invocationID, deliveries[i], out)
			}
		})
	}
	wg.Wait()
	s.flush(ctx, invocationID, out)
	return results
}

// byMessage groups the indexes of deliveries that belong to one message.
func byMessage(deliveries []Delivery) [][]int {
	at := make(map[Message]int, len(deliveries))
	groups := make([][]int, 0, len(deliveries))
	for i, d := range deliveries {
		m := Ask{Data: d.Data}.Message()
		if g, known := at[m]; known && d.Err == nil {
			groups[g] = append(groups[g], i)
			continue
		}
		if d.Err == nil {
			at[m] = len(groups)
		}
		groups = append(groups, []int{i})
	}
	return groups
}

// handle decides one delivery.
func (s *Service) handle(ctx context.Context, invocationID string, d Delivery, out *outbox) Result {
	w := s.newWork(ctx, invocationID, Ask{Request: d.Request, Data: d.Data, Human: d.Human, Time: d.Time}, out)
	w.silent = d.Silent
	return w.logged(func() Result {
		switch {
		case d.Err != nil:
			return w.refuseUnread(ctx, d.Err)
		case d.Sweep != nil:
			return s.sweep(ctx, invocationID, *d.Sweep)
		case d.Operation != nil:
			return w.operate(ctx, *d.Operation)
		case d.Data.DryRun:
			return w.simulate(ctx)
		}
		return w.run(ctx)
	})
}

func (s *Service) newWork(ctx context.Context, invocationID string, ask Ask, out *outbox) *work {
	return &work{Service: s, invocationID: invocationID, ask: ask, arrived: s.Now(), bounds: s.bounds(ctx), outbox: out}
}

// logged runs the work and logs its result. A panic is answered: the platform
// delivers again, and the ledger knows how far it came.
func (w *work) logged(run func() Result) (result Result) {
	defer func() {
		if p := recover(); p != nil {
			w.err = fmt.Errorf("panic of type %T", p) // its value may quote anything
			result = w.deferred("Internal", "an unexpected error in ons-repush; the event is given back", 0)
		}
		result.EventID, result.MsgID = w.ask.Request.ID, w.ask.Data.MsgID
		w.Log(Line{
			InvocationID: w.invocationID, Request: w.ask.Request, Data: w.ask.Data, Result: result,
			RequestID: w.requestID, Attempts: w.attempts, WaitMs: w.wait().Milliseconds(), CallMs: w.call.Milliseconds(), Err: w.err,
		})
	}()
	return run()
}

// bounds of one invocation in time.
type bounds struct {
	// deadline is when the platform ends the invocation; a day from now where
	// it sets none.
	deadline time.Time
	// callsEnd is the deadline less the reserve for recording and emitting.
	callsEnd time.Time
}

// The reserve is a tenth of the invocation, within these bounds.
const (
	reserveMin = 250 * time.Millisecond
	reserveMax = time.Second
	// needMin is the least time a push is begun with.
	needMin = 2 * time.Second
	// callsRecent is for how long the times of calls say how the next will fare:
	// while they keep every push from beginning, no others come.
	callsRecent = time.Minute
	// leaseMargin is how long a lease outlives the work it covers.
	leaseMargin = 2 * time.Second
)

func (s *Service) bounds(ctx context.Context) bounds {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = s.Now().Add(24 * time.Hour)
	}
	reserve := min(max(deadline.Sub(s.Now())/10, reserveMin), reserveMax)
	return bounds{deadline: deadline, callsEnd: deadline.Add(-reserve)}
}

// callTimes remembers how long recent push calls took. Safe for concurrent use.
type callTimes struct {
	mu     sync.Mutex
	recent [64]time.Duration
	count  int
	last   time.Time
	cached time.Duration // the 95th percentile of recent
}

func (c *callTimes) add(d time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last) > callsRecent {
		c.count = 0
	}
	c.last = now
	c.recent[c.count%len(c.recent)] = d
	c.count++
	sorted := c.recent // a copy
	known := sorted[:min(c.count, len(sorted))]
	slices.Sort(known)
	c.cached = known[(len(known)*95-1)/100]
}

// p95 is zero when no call was made recently.
func (c *callTimes) p95(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last) > callsRecent {
		return 0
	}
	return c.cached
}
