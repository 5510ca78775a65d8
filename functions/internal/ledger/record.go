package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// state of one request.
type state string

const (
	waiting state = "waiting"
	claimed state = "claimed"
	sending state = "sending"
	decided state = "decided"
	emitted state = "emitted"
)

const (
	// haltedFor is how long what an order holds up is left alone at most: it may
	// be lifted.
	haltedFor = 30 * time.Second
	// emitGrace is how long after a decision its worker may take to send the
	// event and to say so.
	emitGrace = 30 * time.Second
)

// record is all that is known of one message. Its methods are the state
// machine; they decide by the moment they are given and do no I/O. redis.lua is
// the same machine, held to this one by a test.
type record struct {
	Fence int64
	// Token is that of the last claim, which found Found.
	Token string        `json:",omitempty"`
	Found pushing.Found `json:",omitempty"`
	// Pushes counts what was accepted or is unknown.
	Pushes int `json:",omitempty"`
	// Maybe: an answer "not sent" was only probably right, or the ledger forgot.
	Maybe bool `json:",omitempty"`
	// Touched is when the record changed last.
	Touched  time.Time
	Requests []*request
}

// request is one event that asked for a push of the message.
type request struct {
	Key        pushing.RequestKey
	Generation int
	State      state
	ReceivedAt time.Time
	// Until is the end of the lease of claimed and sending, when waiting is
	// due, and when the event of decided is overdue.
	Until time.Time
	Code  string `json:",omitempty"`
	// Since is when the request began to wait, Held how long it stood still by
	// order before that.
	Since    time.Time     `json:",omitzero"`
	Held     time.Duration `json:",omitempty"`
	Young    bool          `json:",omitempty"`
	Probe    time.Duration `json:",omitempty"`
	Attempts int           `json:",omitempty"`
	// Unresolved counts the sends of this request whose answer is not known.
	Unresolved int `json:",omitempty"`
	// Ask is kept until the event has left: whoever finishes the request
	// needs it.
	Ask *pushing.Ask `json:",omitempty"`
	// OperationID is kept with the decision, which counts for the operation.
	OperationID string       `json:",omitempty"`
	First       events.First `json:",omitzero"`
	// DecidedAt is when the decision was written, by the ledger's clock.
	DecidedAt time.Time     `json:",omitzero"`
	Event     *events.Event `json:",omitempty"`
}

// moment is what a transition depends on beside the record.
type moment struct {
	now time.Time
	// order is the one in force on the request, if any.
	order pushing.Halted
	// young: a request that is new may have been forgotten.
	young bool
	// probe is how long the group's breaker was open, if it has ended and nobody
	// knows yet whether calls pass; zero otherwise.
	probe time.Duration
}

func (r *record) find(k pushing.RequestKey) *request {
	if at := slices.IndexFunc(r.Requests, func(q *request) bool { return q.Key == k }); at >= 0 {
		return r.Requests[at]
	}
	return nil
}

// add notes a request that is new to the record.
func (r *record) add(ask pushing.Ask, code string, at moment) *request {
	ask.Lease, ask.Token = 0, ""
	q := &request{
		Key: ask.Request, Generation: ask.Generation(), OperationID: ask.Data.OperationID, State: waiting, ReceivedAt: at.now, Until: at.now, Since: at.now, Code: code, Ask: &ask,
		Young: at.young,
	}
	r.Maybe = r.Maybe || q.Young
	r.Requests = append(r.Requests, q)
	r.Touched = at.now
	return q
}

// open is the request that is claimed or sending, if any.
func (r *record) open() *request {
	for _, q := range r.Requests {
		if q.State == claimed || q.State == sending {
			return q
		}
	}
	return nil
}

// closing is the decision that closed generation or a higher one: that of the
// generation itself when there is one.
func (r *record) closing(generation int) (first events.First, closed bool) {
	best := 0
	for _, q := range r.Requests {
		if q.isDecided() && q.First.Outcome.Closes() && q.Generation >= generation && (best == 0 || q.Generation < best) {
			best, first = q.Generation, q.First
		}
	}
	return first, best > 0
}

func (q *request) isDecided() bool { return q.State == decided || q.State == emitted }

// claim answers ask and takes the claim when there is one to take.
func (r *record) claim(ask pushing.Ask, at moment) pushing.Claim {
	q := r.find(ask.Request)
	if q == nil {
		q = r.add(ask, "", at)
	}
	switch q.State {
	case emitted:
		return r.answer(q, pushing.Repeated, at.now)
	case decided:
		return r.answer(q, pushing.Undelivered, at.now)
	}
	if other := r.open(); other != nil {
		if other.Until.After(at.now) {
			if ask.Token != "" && ask.Token == r.Token {
				return r.ours(other, r.Found, ask.Lease, at)
			}
			return r.busy(q, "InProgress", other.Until, at.now)
		}
		if other.State == sending {
			return r.take(other, pushing.Interrupted, ask, at)
		}
		other.wait("", at.now, at.now)
	}
	if _, closed := r.closing(q.Generation); closed {
		return r.take(q, pushing.Closed, ask, at)
	}
	switch {
	case at.order.Code == pushing.CodeCancelled:
		return r.take(q, pushing.Granted, ask, at)
	case at.order.Code != "":
		q.wait(at.order.Code, at.now.Add(at.order.Wait), at.now)
		r.Touched = at.now
		return r.busy(q, q.Code, q.Until, at.now)
	case q.Until.After(at.now) && !isOrder(q.Code): // an order that was lifted holds up nobody
		return r.busy(q, q.Code, q.Until, at.now)
	}
	return r.take(q, pushing.Granted, ask, at)
}

func (r *record) busy(q *request, code string, until, now time.Time) pushing.Claim {
	c := r.answer(q, pushing.Busy, now)
	c.Wait, c.Code = until.Sub(now), code
	return c
}

// wait makes q wait from now on, and counts how long it stood still.
func (q *request) wait(code string, until, now time.Time) {
	q.Held = q.held(now)
	if isOrder(q.Code) {
		q.Code = ""
	}
	q.State, q.Code, q.Since, q.Until = waiting, cmp.Or(code, q.Code), now, until
}

// held is how long q stood still by order, in all.
func (q *request) held(now time.Time) time.Duration {
	if q.State == waiting && stoodStill(q.Code) {
		return q.Held + now.Sub(q.Since)
	}
	return q.Held
}

func stoodStill(code string) bool { return code == pushing.CodeStopped || code == pushing.CodePaused }

func isOrder(code string) bool { return stoodStill(code) || code == pushing.CodeBreaker }

// take gives the claim of q away under a new fencing number. An interrupted
// request stays sending: until it is decided, nobody knows.
func (r *record) take(q *request, found pushing.Found, ask pushing.Ask, at moment) pushing.Claim {
	// Never the same again, whatever the ledger has forgotten meanwhile.
	r.Fence = max(r.Fence+1, at.now.UnixMilli())
	r.Token, r.Found, r.Touched = ask.Token, found, at.now
	if q.Probe = 0; found == pushing.Granted && at.order.Code == "" {
		q.Probe = at.probe
	}
	if q.State != sending {
		q.Held = q.held(at.now)
		q.State = claimed
	}
	q.Until = at.now.Add(ask.Lease)
	return r.ours(q, found, ask.Lease, at)
}

// ours is the answer for a claim that was taken.
func (r *record) ours(q *request, found pushing.Found, lease time.Duration, at moment) pushing.Claim {
	c := r.answer(q, found, at.now)
	c.Fence, c.Lease = r.Fence, lease
	c.Cancelled = found == pushing.Granted && at.order.Code == pushing.CodeCancelled
	if found == pushing.Closed {
		c.First, _ = r.closing(q.Generation)
	}
	return c
}

func (r *record) answer(q *request, found pushing.Found, now time.Time) pushing.Claim {
	c := pushing.Claim{
		Found: found, ReceivedAt: q.ReceivedAt, Age: now.Sub(q.ReceivedAt) - q.held(now), Code: q.Code, First: q.First, Young: q.Young, Probe: q.Probe,
		Pushes: r.Pushes, Attempts: q.Attempts, MaybeDuplicate: r.Maybe || r.Pushes > 0,
	}
	if found == pushing.Interrupted { // whose own push is none before it
		c.MaybeDuplicate = r.Maybe || r.Pushes > q.Unresolved || q.Unresolved > 1
	}
	if q.Ask != nil {
		c.Ask = *q.Ask
	}
	if q.Event != nil {
		c.Event = *q.Event
	}
	return c
}

// held returns the request that c claims. [pushing.ErrLost]: c lost it;
// [pushing.ErrForgotten]: the request is not known.
func (r *record) held(c pushing.Claim) (*request, error) {
	q := r.find(c.Request)
	switch {
	case q == nil:
		return nil, pushing.ErrForgotten
	case r.Fence != c.Fence || q.State != claimed && q.State != sending:
		return q, pushing.ErrLost
	}
	return q, nil
}

func (r *record) markSending(c pushing.Claim, at moment) error {
	q, err := r.held(c)
	asked := err == nil && q.State == sending && r.Pushes == c.Pushes+1 && q.Attempts == c.Attempts+1 // before
	switch {
	case err != nil:
		return err
	case !asked && (r.Pushes != c.Pushes || q.Attempts != c.Attempts):
		return pushing.ErrLost
	case at.order.Code != "" && !(at.order.Code == pushing.CodeBreaker && q.Probe > 0):
		return &at.order
	case !asked:
		q.State = sending
		q.Attempts++
		q.Unresolved++
		r.Pushes++
	}
	q.Until, r.Touched = at.now.Add(c.Lease), at.now
	return nil
}

func (r *record) markNotSent(c pushing.Claim, maybe bool, at moment) error {
	q, err := r.held(c)
	switch {
	case err != nil:
		return err
	case q.Attempts != c.Attempts: // one that comes late must not take back the next
		return pushing.ErrLost
	case r.Pushes == c.Pushes-1: // asked before
	case r.Pushes != c.Pushes || q.State != sending:
		return pushing.ErrLost
	default:
		if q.Unresolved--; q.Unresolved == 0 {
			q.State = claimed
		}
		r.Pushes--
	}
	q.Until, r.Touched = at.now.Add(c.Lease), at.now
	r.Maybe = r.Maybe || maybe
	return nil
}

func (r *record) park(c pushing.Claim, after time.Duration, code string, at moment) error {
	q, err := r.held(c)
	if err != nil {
		if q != nil && r.Fence == c.Fence && q.State == waiting {
			return nil // asked before
		}
		return err
	}
	if q.State == sending && r.Pushes == c.Pushes+1 && q.Unresolved == 1 {
		r.Pushes, q.Unresolved, q.State = c.Pushes, 0, claimed
	}
	if q.State != claimed {
		return pushing.ErrLost
	}
	q.wait(code, at.now.Add(after), at.now)
	r.Touched = at.now
	return nil
}

func (r *record) decide(c pushing.Claim, d pushing.Decision, at moment) error {
	q, err := r.held(c)
	if err != nil {
		switch {
		case q == nil || !q.isDecided():
		case r.Fence == c.Fence && q.First.Outcome == d.Outcome:
			return nil // asked before
		case q.First.Outcome == events.Unknown && q.First.Late == "":
			q.First.Late = string(d.Outcome)
		}
		return err
	}
	if q.State == sending && !d.Outcome.Closes() {
		r.Pushes--
	}
	q.State, q.Event, q.Unresolved, r.Token, r.Touched = decided, &d.Event, 0, "", at.now
	q.DecidedAt, q.Until = at.now, at.now.Add(emitGrace)
	q.First = events.First{EventID: q.Key.ID, Outcome: d.Outcome, DecidedAt: d.At}
	return nil
}

func (r *record) markEmitted(k pushing.RequestKey, at moment) {
	if q := r.find(k); q != nil && q.State == decided {
		q.State, q.Event, q.Ask, r.Touched = emitted, nil, nil, at.now
	}
}

// due is when the record wants to be looked at: zero when nothing of it is
// unfinished.
func (r *record) due() (at time.Time) {
	for _, q := range r.Requests {
		if q.State == emitted {
			continue
		}
		if until := r.dueOf(q); at.IsZero() || until.Before(at) {
			at = until
		}
	}
	return at
}

// isOpen reports whether something of the record is unfinished and due by then;
// a zero time asks for no more than unfinished.
func (r *record) isOpen(by time.Time) bool {
	due := r.due()
	return !due.IsZero() && (by.IsZero() || !due.After(by))
}

// dueOf is when an unfinished request can be taken up: while somebody is at
// the message, the others wait.
func (r *record) dueOf(q *request) time.Time {
	if other := r.open(); other != nil && q.State == waiting && other.Until.After(q.Until) {
		return other.Until
	}
	return q.Until
}

// work lists what of the record can be taken up now.
func (r *record) work(now time.Time) []pushing.Work {
	var due []pushing.Work
	for _, q := range r.Requests {
		if q.State != emitted && !r.dueOf(q).After(now) {
			due = append(due, pushing.Work{Ask: *q.Ask, Decided: q.State == decided})
		}
	}
	return due
}

// idle reports whether nothing of the record is under way.
func (r *record) idle() bool {
	return !slices.ContainsFunc(r.Requests, func(q *request) bool { return q.State != emitted && q.State != waiting })
}
