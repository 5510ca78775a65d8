package pushing

import (
	"context"
	"sync"
	"time"
)

// outbox gathers what has left during one invocation, so that the ledger is
// told of many at once. A nil outbox tells it at once. Safe for concurrent use.
type outbox struct {
	mu    sync.Mutex
	asks  []Ask
	since time.Time // of the first
}

// How much, and how long, a crash may make leave once more, under the same id.
const (
	outboxSize = 64
	outboxTime = 10 * time.Second
)

// sent notes an event that has left.
func (o *outbox) sent(ctx context.Context, l Ledger, ask Ask, now time.Time) error {
	if o == nil {
		return l.MarkEmitted(context.WithoutCancel(ctx), ask)
	}
	o.mu.Lock()
	if len(o.asks) == 0 {
		o.since = now
	}
	o.asks = append(o.asks, ask)
	full := len(o.asks) >= outboxSize || now.Sub(o.since) >= outboxTime
	o.mu.Unlock()
	if full {
		return o.flush(ctx, l)
	}
	return nil
}

// flush tells the ledger what has left.
func (o *outbox) flush(ctx context.Context, l Ledger) error {
	o.mu.Lock()
	asks := o.asks
	o.asks = nil
	o.mu.Unlock()
	if len(asks) == 0 {
		return nil
	}
	return l.MarkEmitted(context.WithoutCancel(ctx), asks...)
}

// flush tells the ledger what is left at the end of an invocation.
func (s *Service) flush(ctx context.Context, invocationID string, out *outbox) {
	if err := out.flush(ctx, s.ledger); err != nil {
		s.Log(Line{InvocationID: invocationID, Result: Result{
			Code: codeLedger, Message: "the ledger was not told which results have left; they are sent once more under the same ids", Parked: true,
		}, Err: err})
	}
}
