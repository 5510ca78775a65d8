package pushing

import (
	"context"
	"sync"
	"time"
)

// A group that refuses us five times in a row, because we are not permitted,
// is left alone for a minute, then for two … up to ten.
const (
	breakerDenials = 5
	breakerMin     = time.Minute
	breakerMax     = 10 * time.Minute
)

// breakers stop calling for groups that refuse us. An open one is an order in
// the ledger, which all instances obey, and which lets a probe through when it
// ends; the refusals in a row each instance counts for itself. That the ledger
// does not hear of one costs a few calls more. Safe for concurrent use.
type breakers struct {
	mu     sync.Mutex
	groups map[[2]string]*breaker
}

type breaker struct {
	denials int
	// opened is when this instance opened it last; zero: it is closed.
	opened time.Time
}

func (b *breakers) of(m Message) *breaker {
	key := [2]string{m.InstanceID, m.GroupID}
	if b.groups[key] == nil {
		b.groups[key] = new(breaker)
	}
	return b.groups[key]
}

// denied counts a refusal of a request that began then. The fifth in a row
// opens the breaker, and a refused probe opens it again, for twice as long.
func (b *breakers) denied(ctx context.Context, l Ledger, c Claim, began, now time.Time) {
	m := c.Message()
	lasts := min(max(breakerMin, 2*c.Probe), breakerMax)
	b.mu.Lock()
	g := b.of(m)
	if c.Probe == 0 && !began.After(g.opened) { // under way when it opened
		b.mu.Unlock()
		return
	}
	g.denials++
	opens := c.Probe > 0 || g.denials >= breakerDenials
	if opens {
		g.denials, g.opened = 0, now
	}
	b.mu.Unlock()
	if opens {
		_ = l.Order(context.WithoutCancel(ctx), OfGroup(m), Order{Code: CodeBreaker, For: lasts})
	}
}

// passed closes the breaker.
func (b *breakers) passed(ctx context.Context, l Ledger, c Claim) {
	m := c.Message()
	b.mu.Lock()
	g := b.of(m)
	wasOpen := c.Probe > 0 || !g.opened.IsZero()
	*g = breaker{}
	b.mu.Unlock()
	if wasOpen {
		_ = l.Order(context.WithoutCancel(ctx), OfGroup(m), Order{})
	}
}
