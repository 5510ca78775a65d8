package quota

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// lateness is how late a caller may wake for its slot where the spacing is
// shorter still: the timers of a busy process are off by milliseconds, which
// the law takes for jitter.
const lateness = 10 * time.Millisecond

// turn implements [pushing.Turn].
type turn struct {
	pacer   *Pacer
	lane    events.Priority
	settled bool // has booked, or was released
}

// settle returns 1 the first time, and 0 from then on.
func (t *turn) settle() int {
	if t.settled {
		return 0
	}
	t.settled = true
	return 1
}

// Release implements [pushing.Turn].
func (t *turn) Release() {
	p := t.pacer
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unbooked -= t.settle()
	p.dispatch()
}

// Book implements [pushing.Turn]. A slot whose time passed while the process
// slept is given back and another one booked: so late it would fall among
// other calls. A slot that comes after ctx's deadline is never taken.
func (t *turn) Book(ctx context.Context) (pushing.Slot, error) {
	p := t.pacer
	for {
		asked := p.now()
		within := Horizon
		deadline, limited := ctx.Deadline()
		if limited {
			within = min(within, deadline.Sub(asked))
		}
		b, o, err := p.store.Book(ctx, t.lane, within)
		if err != nil {
			return nil, fmt.Errorf("quota: book a slot: %w", err)
		}
		answered := p.now()
		due := answered.Add(b.Wait)
		if b.Seq == 0 {
			o.Next = b.Wait
			p.learn(o, 0)
			if limited && due.After(deadline) {
				return nil, pushing.ErrNoSlot
			}
			if err := pushing.Sleep(ctx, b.Wait-Horizon); err != nil {
				return nil, err
			}
			continue
		}
		p.learn(o, t.settle())
		s := &slot{pacer: p, booking: b}
		if err := pushing.Sleep(ctx, b.Wait); err != nil {
			s.Report(pushing.Unused)
			return nil, err
		}
		if since(p.now(), due) <= max(o.Spacing, lateness) && since(answered, asked) <= Horizon {
			return s, nil
		}
		s.Report(pushing.Unused)
	}
}

// slot implements [pushing.Slot].
type slot struct {
	pacer    *Pacer
	booking  Booking
	reported atomic.Bool
}

// Report implements [pushing.Slot]. Only the first report counts. One that does
// not reach the store is lost: it costs precision, and the store's failure
// shows at the next booking.
func (s *slot) Report(v pushing.Verdict) {
	if !s.reported.Swap(true) {
		s.pacer.store.Report(s.booking, v, s.pacer.hear)
	}
}

// since is the time from t to now by the monotonic or the wall clock, whichever
// saw more: the monotonic one may stand still while a virtual machine is frozen.
func since(now, t time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}
