package ledger

import (
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// standing is an order in force.
type standing struct {
	Code string
	// Until is when it ends by itself; zero: never.
	Until time.Time `json:",omitzero"`
	// Lasts is how long it was given for.
	Lasts time.Duration `json:",omitempty"`
	Given time.Time
}

const (
	// probeFor is how long a probe may be under way before the next goes.
	probeFor = 20 * time.Second
	// halfOpenFor is how long after a breaker ended only probes get through.
	halfOpenFor = 10 * time.Minute
)

// halfOpen is how long the breaker of the group of ask was open, if it has ended
// and nobody knows yet whether calls pass; zero otherwise.
func (o orders) halfOpen(ask pushing.Ask, now time.Time) time.Duration {
	if len(o) == 0 {
		return 0
	}
	s := o[pushing.OfGroup(ask.Message())]
	if s.Code != pushing.CodeBreaker || now.Before(s.Until) || !now.Before(s.Until.Add(halfOpenFor)) {
		return 0
	}
	return s.Lasts
}

// probing keeps others away from the group of ask while its probe is under way.
func (o orders) probing(ask pushing.Ask, now time.Time) {
	scope := pushing.OfGroup(ask.Message())
	s := o[scope]
	s.Until = now.Add(probeFor)
	o[scope] = s
}

// orders are the standing orders by scope.
type orders map[pushing.Scope]standing

// give takes an order in, unless the scope was cancelled, which is final. It
// drops those that nobody needs any more: ended ones, and cancellations of work
// that retention has forgotten.
func (o orders) give(s pushing.Scope, order pushing.Order, retention time.Duration, now time.Time) {
	for scope, old := range o {
		until := old.Until
		if old.Code == pushing.CodeBreaker {
			until = until.Add(halfOpenFor)
		}
		if !old.Until.IsZero() && !now.Before(until) || old.Code == pushing.CodeCancelled && now.Sub(old.Given) > retention {
			delete(o, scope)
		}
	}
	if o.on(s, now).Code == pushing.CodeCancelled {
		return
	}
	if delete(o, s); order.Code == "" {
		return
	}
	given := standing{Code: order.Code, Given: now, Lasts: order.For}
	if order.For > 0 {
		given.Until = now.Add(order.For)
	}
	o[s] = given
}

// over is the order that ask is subject to: a cancellation, or the first of
// its scopes. The zero value means none.
func (o orders) over(ask pushing.Ask, now time.Time) (found pushing.Halted) {
	if len(o) == 0 { // nearly always, and the scopes are text
		return found
	}
	for _, scope := range ask.Scopes() {
		h := o.on(scope, now)
		if h.Code == pushing.CodeCancelled || found.Code == "" {
			found = h
		}
		if h.Code == pushing.CodeCancelled {
			break
		}
	}
	return found
}

// on is the order on a scope itself.
func (o orders) on(s pushing.Scope, now time.Time) pushing.Halted {
	given, ok := o[s]
	switch {
	case !ok || !given.Until.IsZero() && !now.Before(given.Until):
		return pushing.Halted{}
	case given.Until.IsZero():
		return pushing.Halted{Code: given.Code, Wait: haltedFor}
	}
	return pushing.Halted{Code: given.Code, Wait: min(given.Until.Sub(now), haltedFor)}
}

// codes lists the orders on the scopes.
func (o orders) codes(now time.Time, scopes ...pushing.Scope) (codes []string) {
	for _, s := range scopes {
		if h := o.on(s, now); h.Code != "" {
			codes = append(codes, h.Code)
		}
	}
	return codes
}

func newProgress() pushing.Progress {
	return pushing.Progress{States: make(map[string]int), Outcomes: make(map[events.Outcome]int)}
}

// count adds the record's requests of an operation; "" means all.
func (r *record) count(p *pushing.Progress, operationID string, now time.Time) {
	for _, q := range r.Requests {
		if operationID != "" && q.OperationID != operationID {
			continue
		}
		p.States[string(q.State)]++
		if !q.isDecided() {
			p.OldestMs = max(p.OldestMs, now.Sub(q.ReceivedAt).Milliseconds())
			continue
		}
		p.Outcomes[q.First.Outcome]++
		if at := q.DecidedAt; p.First.IsZero() || at.Before(p.First) {
			p.First = at
		}
		if q.DecidedAt.After(p.Last) {
			p.Last = q.DecidedAt
		}
	}
}

func (r *record) history(now time.Time) pushing.History {
	h := pushing.History{Pushes: r.Pushes}
	for _, q := range r.Requests {
		past := pushing.Past{
			Source: q.Key.Source, EventID: q.Key.ID, Generation: q.Generation, State: string(q.State), Code: q.Code, Attempts: q.Attempts,
			ReceivedAt: q.ReceivedAt, Outcome: q.First.Outcome, DecidedAt: q.First.DecidedAt, Late: q.First.Late,
		}
		if !q.isDecided() {
			past.DueInMs = max(0, r.dueOf(q).Sub(now).Milliseconds())
		}
		h.Requests = append(h.Requests, past)
	}
	return h
}
