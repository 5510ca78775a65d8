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
	// probeTime is how long a probe may be under way before the next goes.
	probeTime = 20 * time.Second
)

// breakers stop calling for groups that refuse us. An open one is an order in
// the ledger, which all instances obey; how it came to be, and which of its own
// calls is the probe, each instance knows for itself. Safe for concurrent use.
type breakers struct {
	mu     sync.Mutex
	groups map[[2]string]*breaker
}

type breaker struct {
	denials int           // in a row
	openFor time.Duration // zero: closed
	until   time.Time     // when it is half open
	probe   time.Time     // no other probe before
}

func (b *breakers) of(m Message) *breaker {
	key := [2]string{m.InstanceID, m.GroupID}
	if b.groups[key] == nil {
		b.groups[key] = new(breaker)
	}
	return b.groups[key]
}

// enter lets a request pass, which is nil, unless the breaker is open or its
// probe is under way.
func (b *breakers) enter(m Message, now time.Time) *Halted {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.of(m)
	if g.openFor == 0 {
		return nil
	}
	if wait := max(g.until.Sub(now), g.probe.Sub(now)); wait > 0 {
		return &Halted{Code: CodeBreaker, Wait: wait}
	}
	g.probe = now.Add(probeTime)
	return nil
}

// heard notes that another instance has opened the breaker: after that one probe
// is enough here, too.
func (b *breakers) heard(m Message, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.of(m)
	g.openFor, g.denials = max(g.openFor, breakerMin), breakerDenials
	if g.until.Before(until) {
		g.until = until
	}
}

// denied counts a refusal of a request that began then; the fifth in a row, or that
// of a probe, opens the breaker. That the ledger does not hear of it costs other
// instances a few calls more.
func (b *breakers) denied(ctx context.Context, l Ledger, m Message, began, now time.Time) {
	b.mu.Lock()
	g := b.of(m)
	g.denials++
	underWay := g.openFor > 0 && began.Before(g.until) // when it opened
	opens := g.denials >= breakerDenials && !underWay
	if opens {
		g.openFor = min(max(breakerMin, 2*g.openFor), breakerMax)
		g.until = now.Add(g.openFor)
	}
	lasts := g.openFor
	b.mu.Unlock()
	if opens {
		_ = l.Order(context.WithoutCancel(ctx), OfGroup(m), Order{Code: CodeBreaker, For: lasts})
	}
}

// passed closes the breaker.
func (b *breakers) passed(ctx context.Context, l Ledger, m Message) {
	b.mu.Lock()
	g := b.of(m)
	wasOpen := g.openFor > 0
	*g = breaker{}
	b.mu.Unlock()
	if wasOpen {
		_ = l.Order(context.WithoutCancel(ctx), OfGroup(m), Order{})
	}
}
