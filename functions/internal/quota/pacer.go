package quota

import (
	"context"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Pacer is the one dispatcher of a quota in a process. It has no goroutine of
// its own, only a timer while somebody waits, so that the process can be frozen
// and thawed at any moment. Safe for concurrent use.
type Pacer struct {
	store Store
	now   func() time.Time

	mu       sync.Mutex
	lanes    lanes
	outlook  Outlook   // the store's last answer; zero before the first
	asOf     time.Time // when it came
	unbooked int       // turns that have neither booked nor been released
	timer    *time.Timer
}

var _ pushing.Pacer = (*Pacer)(nil)

// NewPacer makes the dispatcher of the quota that store holds. A nil clock is
// time.Now.
func NewPacer(store Store, now func() time.Time) *Pacer {
	if now == nil {
		now = time.Now
	}
	return &Pacer{store: store, now: now, asOf: now()}
}

// Turn implements [pushing.Pacer]. It returns [pushing.ErrNoSlot] as soon as
// ctx's deadline is known to come before any turn: the next free slot, or the
// next probe of a closed quota, is too far away. That many others wait is no
// reason to give up, since they may leave.
func (p *Pacer) Turn(ctx context.Context, lane events.Priority) (pushing.Turn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &waiter{lane: laneOf(lane), done: make(chan struct{})}
	w.deadline, _ = ctx.Deadline()
	p.mu.Lock()
	p.lanes.push(w)
	p.dropLate()
	p.dispatch()
	p.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		p.mu.Lock()
		left := p.lanes.remove(w)
		p.mu.Unlock()
		if left {
			return nil, ctx.Err()
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	return &turn{pacer: p, lane: lane}, nil
}

// dispatch grants the turns that are due and sets the timer for the next one.
// p.mu is held.
func (p *Pacer) dispatch() {
	if p.timer != nil {
		p.timer.Stop()
	}
	for !p.lanes.empty() {
		// While the spacing is unknown, or one probe is all there is, the next
		// turn waits until this one has booked or is released.
		if p.unbooked > 0 && (p.outlook.Spacing == 0 || p.outlook.Closed) {
			return
		}
		ahead := max(0, p.free().Sub(p.now())) + time.Duration(p.unbooked)*p.outlook.Spacing
		if ahead > Horizon {
			p.wakeIn(ahead - Horizon)
			return
		}
		p.unbooked++
		close(p.lanes.pop().done)
	}
}

// free is when the next slot is free, as far as this process knows. p.mu is
// held.
func (p *Pacer) free() time.Time { return p.asOf.Add(p.outlook.Next) }

func (p *Pacer) wakeIn(d time.Duration) {
	if p.timer != nil {
		p.timer.Reset(d)
		return
	}
	p.timer = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dispatch()
	})
}

// dropLate sends away who cannot get a turn in time. p.mu is held.
func (p *Pacer) dropLate() {
	for _, w := range p.lanes.removeBefore(p.free().Add(-Horizon)) {
		w.err = pushing.ErrNoSlot
		close(w.done)
	}
}

// hear takes in what the store says of a report: nothing that sends this
// process farther back in line.
func (p *Pacer) hear(o Outlook) {
	p.mu.Lock()
	if ahead := max(0, p.free().Sub(p.now())); !o.Closed && !p.outlook.Closed {
		o.Next = min(o.Next, ahead)
	}
	p.mu.Unlock()
	p.learn(o, 0)
}

// learn takes in an answer of the store.
func (p *Pacer) learn(o Outlook, settled int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outlook, p.asOf = o, p.now()
	p.unbooked -= settled
	if o.Closed {
		p.dropLate()
	}
	p.dispatch()
}
