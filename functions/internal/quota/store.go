package quota

import (
	"context"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Horizon is how far ahead slots are booked at most. A slot booked by a process
// that dies is lost, and a booked call does not see what is learned meanwhile.
const Horizon = 500 * time.Millisecond

// Store holds the state of one quota (account, region and API), for one process
// or for many. It answers with waits, not times, so that clocks need not agree.
// Safe for concurrent use. The conformance suite is in quotatest.
type Store interface {
	// Book takes the next slot if it comes within the given time, of which at
	// most [Horizon] counts; if not, nothing is taken, Seq is zero and Wait
	// says when a slot may be free. Callers who ask for the whole Horizon are
	// told different waits, so that they do not come back together. The lane is
	// counted, see [Shares], and changes nothing else. An error means that the
	// state could not be reached, or that ctx has ended.
	Book(ctx context.Context, lane events.Priority, within time.Duration) (Booking, Outlook, error)
	// Report says how a booked call was answered, once per booking, in any
	// order. An Unused slot is free again if nobody booked after it. Report
	// does not wait, but no later Book of this store overtakes it. learn, which
	// may be nil, is called with the outlook after the report: before Report
	// returns, or from another goroutine, or never when the state could not be
	// reached.
	Report(b Booking, v pushing.Verdict, learn func(Outlook))
	// Shares says how the quota is being used and changes nothing. An error
	// means that the state could not be reached.
	Shares(ctx context.Context) (Shares, error)
}

// Booking is one slot.
type Booking struct {
	// Seq numbers the bookings of a quota from 1; zero: no slot was taken.
	Seq int64
	// Wait is how long until the slot's time, from when the store answers.
	Wait time.Duration
	// At is the slot's time on the store's clock, from any origin.
	At time.Duration
	// Probe marks the one call that finds out whether a closed quota has room
	// again.
	Probe bool
}

// Outlook is what the store expects at the moment it answers.
type Outlook struct {
	// Next is how long until the next slot that is neither taken nor awaited by
	// a caller who was told when to come back; zero: at once.
	Next time.Duration
	// Spacing is the time between two slots.
	Spacing time.Duration
	// Closed: the quota refused calls in a row. Next is when the next probe
	// may go.
	Closed bool
}

// Memory is a [Store] for one process, which forgets with it.
type Memory struct {
	now    func() time.Time
	origin time.Time

	mu    sync.Mutex
	law   law
	tally tally
}

// NewMemory makes the state of a quota of qps calls a second, [MinQPS] to
// [MaxQPS]. A nil clock is time.Now.
func NewMemory(qps float64, now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, origin: now(), law: newLaw(qps)}
}

// Book implements [Store]. It fails only when ctx has ended.
func (m *Memory) Book(ctx context.Context, lane events.Priority, within time.Duration) (Booking, Outlook, error) {
	if err := ctx.Err(); err != nil {
		return Booking{}, Outlook{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now().Sub(m.origin)
	b := m.law.book(now, min(within, Horizon))
	o := m.law.outlook(now)
	if b.Seq > 0 {
		m.tally.at(now)[laneOf(lane)]++
		m.law.appoint(now)
	}
	return b, o, nil
}

// Report implements [Store]. It calls learn before it returns.
func (m *Memory) Report(b Booking, v pushing.Verdict, learn func(Outlook)) {
	m.mu.Lock()
	now := m.now().Sub(m.origin)
	m.law.report(now, b, v)
	o := m.law.outlook(now)
	m.mu.Unlock()
	if learn != nil {
		learn(o)
	}
}

// Shares implements [Store]. It never fails.
func (m *Memory) Shares(context.Context) (Shares, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now().Sub(m.origin)
	this := m.tally.at(now)
	return newShares(m.law.outlook(now), m.tally.last, *this), nil
}
