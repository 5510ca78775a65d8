package ledger

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// local is a ledger whose records are within reach of this process alone. Safe
// for concurrent use.
type local struct {
	retention time.Duration
	now       func() time.Time
	shelves   shelves

	mu sync.Mutex
	// given is until when what Due returned is not returned again.
	given map[pushing.RequestKey]time.Time
}

// givenFor is how long who was told of due work has it for itself.
const givenFor = 10 * time.Second

// shelves keeps the records. Each call of do is one step: what it changed is
// kept whole when it returns nil, and not at all otherwise; no two run at once.
type shelves interface {
	do(change bool, step func(shelf) error) error
}

// shelf is what one step sees. A step that may change nothing only reads.
type shelf interface {
	// record is nil when there is none. What is returned is the step's own.
	record(m pushing.Message) (*record, error)
	save(m pushing.Message, r *record) error
	// owner is the message that a request was for, if it is known.
	owner(k pushing.RequestKey) (pushing.Message, bool)
	own(k pushing.RequestKey, m pushing.Message) error
	// each calls visit for every record until it returns false; only for those
	// that are due by then, unless that is zero. The error is of the records
	// that it could not read.
	each(by time.Time, visit func(*record) bool) error
	// open counts the records of which something is unfinished; only those that
	// are due by then, unless that is zero.
	open(by time.Time) int
	// forget drops a few records of which nothing is unfinished and that did
	// not change since.
	forget(since time.Time) error
	orders() (orders, error)
	setOrders(o orders) error
}

func newLocal(retention time.Duration, now func() time.Time, s shelves) *local {
	if now == nil {
		now = time.Now
	}
	return &local{retention: retention, now: now, shelves: s, given: make(map[pushing.RequestKey]time.Time)}
}

// ordered is a step that depends on the standing orders.
func (l *local) ordered(change bool, step func(s shelf, standing orders, now time.Time) error) error {
	return l.shelves.do(change, func(s shelf) error {
		standing, err := s.orders()
		if err != nil {
			return err
		}
		return step(s, standing, l.now())
	})
}

// Claim implements [pushing.Ledger].
func (l *local) Claim(_ context.Context, ask pushing.Ask) (pushing.Claim, error) {
	return l.answer(true, ask, func(r *record, at moment) pushing.Claim { return r.claim(ask, at) })
}

// Receive implements [pushing.Ledger].
func (l *local) Receive(_ context.Context, ask pushing.Ask, code string) (pushing.Claim, error) {
	return l.answer(true, ask, func(r *record, at moment) pushing.Claim {
		q := r.find(ask.Request)
		if q == nil {
			q = r.add(ask, code, at)
		}
		return r.answer(q, pushing.Busy, at.now)
	})
}

// Read implements [pushing.Ledger].
func (l *local) Read(_ context.Context, ask pushing.Ask) (pushing.Claim, error) {
	return l.answer(false, ask, func(r *record, at moment) pushing.Claim { return r.claim(ask, at) })
}

// answer applies a step to the record of ask, which it makes if need be. Nothing of
// it is kept without change.
func (l *local) answer(change bool, ask pushing.Ask, step func(*record, moment) pushing.Claim) (c pushing.Claim, err error) {
	err = l.ordered(change, func(s shelf, standing orders, now time.Time) error {
		m := ask.Message()
		if owner, known := s.owner(ask.Request); known && owner != m {
			c = pushing.Claim{Ask: ask, Found: pushing.Contradicting, ReceivedAt: now}
			return nil
		}
		if change {
			if err := s.forget(now.Add(-l.retention)); err != nil {
				return err
			}
		}
		r, err := s.record(m)
		if err != nil {
			return err
		}
		if r == nil {
			r = &record{Touched: now}
		}
		at := moment{now: now, order: standing.over(ask, now), probe: standing.halfOpen(ask, now)}
		if c = step(r, at); c.Request == (pushing.RequestKey{}) { // the record has dropped it
			c.Ask = ask
		}
		if !change {
			return nil
		}
		if c.Fence > 0 && c.Probe > 0 && at.probe > 0 {
			standing.probing(ask, now)
			err = s.setOrders(standing)
		}
		return errors.Join(err, s.own(ask.Request, m), s.save(m, r))
	})
	return c, err
}

// change applies one transition to the record of a claim. What the transition
// changed is kept when it lost, too.
func (l *local) change(ask pushing.Ask, transition func(*record, moment) error) (result error) {
	err := l.ordered(true, func(s shelf, standing orders, now time.Time) error {
		r, err := s.record(ask.Message())
		if err != nil {
			return err
		}
		if r == nil {
			result = pushing.ErrForgotten
			return nil
		}
		result = transition(r, moment{now: now, order: standing.over(ask, now)})
		return s.save(ask.Message(), r)
	})
	if err != nil {
		return err
	}
	return result
}

// MarkSending implements [pushing.Ledger].
func (l *local) MarkSending(_ context.Context, c pushing.Claim) error {
	return l.change(c.Ask, func(r *record, at moment) error { return r.markSending(c, at) })
}

// MarkNotSent implements [pushing.Ledger].
func (l *local) MarkNotSent(_ context.Context, c pushing.Claim, maybe bool) error {
	return l.change(c.Ask, func(r *record, at moment) error { return r.markNotSent(c, maybe, at) })
}

// Park implements [pushing.Ledger].
func (l *local) Park(_ context.Context, c pushing.Claim, after time.Duration, code string) error {
	return l.change(c.Ask, func(r *record, at moment) error { return r.park(c, after, code, at) })
}

// Decide implements [pushing.Ledger].
func (l *local) Decide(_ context.Context, c pushing.Claim, d pushing.Decision) error {
	return l.change(c.Ask, func(r *record, at moment) error { return r.decide(c, d, at) })
}

// MarkEmitted implements [pushing.Ledger].
func (l *local) MarkEmitted(_ context.Context, asks ...pushing.Ask) error {
	now := l.now()
	return l.shelves.do(true, func(s shelf) error {
		for _, ask := range asks {
			m := ask.Message()
			r, err := s.record(m)
			if r != nil {
				r.markEmitted(ask.Request, moment{now: now})
				err = s.save(m, r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Due implements [pushing.Backlog].
func (l *local) Due(_ context.Context, limit int) (due []pushing.Work, left pushing.Backlogged, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	maps.DeleteFunc(l.given, func(_ pushing.RequestKey, until time.Time) bool { return !now.Before(until) })
	err = l.shelves.do(false, func(s shelf) error {
		left = pushing.Backlogged{Due: s.open(now), Open: s.open(time.Time{})}
		if limit <= 0 {
			return nil
		}
		return s.each(now, func(r *record) bool {
			for _, item := range r.work(now) {
				if _, known := l.given[item.Ask.Request]; !known && len(due) < limit {
					l.given[item.Ask.Request] = now.Add(givenFor)
					due = append(due, item)
				}
			}
			return len(due) < limit
		})
	})
	return due, left, err
}

// Order implements [pushing.Orders].
func (l *local) Order(_ context.Context, scope pushing.Scope, order pushing.Order) error {
	return l.ordered(true, func(s shelf, standing orders, now time.Time) error {
		standing.give(scope, order, l.retention, now)
		return s.setOrders(standing)
	})
}

// Progress implements [pushing.Orders].
func (l *local) Progress(_ context.Context, operationID string) (p pushing.Progress, err error) {
	err = l.ordered(false, func(s shelf, standing orders, now time.Time) error {
		p = newProgress()
		p.Orders = standing.codes(now, pushing.Everything, pushing.OfOperation(operationID))
		return s.each(time.Time{}, func(r *record) bool { r.count(&p, operationID, now); return true })
	})
	return p, err
}

// History implements [pushing.Orders].
func (l *local) History(_ context.Context, m pushing.Message) (h pushing.History, err error) {
	err = l.ordered(false, func(s shelf, standing orders, now time.Time) error {
		r, err := s.record(m)
		if r != nil {
			h = r.history(now)
		}
		h.Orders = standing.codes(now, pushing.Everything, pushing.OfMessage(m), pushing.OfGroup(m))
		return err
	})
	return h, err
}
