package pushing

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// How long what is known about a group's clients is believed, also that a look-up
// failed: who asked again at once would hold up other groups. A dead client
// stays listed until its heartbeat expires, which takes minutes (source:
// apache/rocketmq ConsumerManager), so one that proved offline is left out for
// a while.
const (
	onlineFor      = 10 * time.Second
	nobodyFor      = time.Second
	nobodyForMax   = 30 * time.Second
	provedOffFor   = 30 * time.Second
	lookupAttempts = 3
)

// Clients chooses the consumer that gets a push: spread over those online, and
// never one that just proved offline. Safe for concurrent use.
type Clients struct {
	connections Connections
	pacer       Pacer
	now         func() time.Time

	mu     sync.Mutex
	groups map[[2]string]*group
}

// NewClients returns a chooser that asks connections at the pace of pacer,
// which is the quota of that operation.
func NewClients(connections Connections, pacer Pacer) *Clients {
	return &Clients{connections: connections, pacer: pacer, now: time.Now, groups: make(map[[2]string]*group)}
}

// group is what is known of one consumer group.
type group struct {
	// lookup is held by the one caller who asks the API; the others wait for
	// its answer.
	lookup chan struct{}

	online  []string
	next    int
	until   time.Time // online, that nobody is, or failed, is believed until then
	failed  error     // why the last look-up said nothing; nil: it did
	nobody  time.Duration
	offline map[string]time.Time // proved offline, until then
}

func (g *group) isOffline(id string, now time.Time) bool { return now.Before(g.offline[id]) }

func (c *Clients) group(m Message) *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{m.InstanceID, m.GroupID}
	g := c.groups[key]
	if g == nil {
		g = &group{lookup: make(chan struct{}, 1), offline: make(map[string]time.Time)}
		c.groups[key] = g
	}
	return g
}

// Choose returns a client of the group that is online. The error is an
// [*Error]; that nobody is online is one of kind NoClient.
func (c *Clients) Choose(ctx context.Context, m Message, lane events.Priority) (string, error) {
	g := c.group(m)
	if id, known, err := c.cached(g); known {
		return id, err
	}
	select {
	case g.lookup <- struct{}{}:
		defer func() { <-g.lookup }()
	case <-ctx.Done():
		return "", &Error{Kind: Unavailable, Op: "choose client", Code: codeTooShort, Err: ctx.Err()}
	}
	if id, known, err := c.cached(g); known {
		return id, err
	}
	ids, err := c.ask(ctx, m, lane)
	switch e := asError(err); {
	case err == nil, e.Kind == NoClient:
		c.learn(g, ids, nil)
	case (e.Kind == Unavailable || e.Kind == Throttled) && e.Code != codeNoSlot && ctx.Err() == nil: // which others would meet as well
		c.learn(g, nil, err)
		return "", err
	default:
		return "", err
	}
	id, _, err := c.cached(g)
	return id, err
}

// cached returns the next client, or the error when it is known that there is none,
// or that nobody could say.
func (c *Clients) cached(g *group) (id string, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if !now.Before(g.until) {
		return "", false, nil
	}
	for range g.online {
		id := g.online[g.next%len(g.online)]
		g.next++
		if !g.isOffline(id, now) {
			return id, true, nil
		}
	}
	if g.failed != nil {
		return "", true, g.failed
	}
	return "", true, &Error{Kind: NoClient, Op: "choose client", Code: "NoClientOnline", Err: errors.New("no consumer of the group is online")}
}

// learn takes in the answer of a look-up, or why there was none.
func (c *Clients) learn(g *group, ids []string, failed error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	g.failed = failed
	maps.DeleteFunc(g.offline, func(_ string, until time.Time) bool { return !now.Before(until) })
	g.online = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return g.isOffline(id, now) })
	if len(g.online) > 0 {
		g.until, g.nobody = now.Add(onlineFor), 0
		return
	}
	g.nobody = min(max(nobodyFor, 2*g.nobody), nobodyForMax)
	g.until = now.Add(g.nobody)
}

// ProvedOffline notes that a push found the client gone. When that was the last
// one known, the next choice asks again.
func (c *Clients) ProvedOffline(m Message, id string) {
	g := c.group(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	g.offline[id] = now.Add(provedOffFor)
	isOnline := func(other string) bool { return !g.isOffline(other, now) }
	if len(g.online) > 0 && !slices.ContainsFunc(g.online, isOnline) {
		g.until = now
	}
}

// Replace returns id, or another client known to be online when id proved
// offline since it was chosen. It asks nobody.
func (c *Clients) Replace(m Message, id string) string {
	g := c.group(m)
	c.mu.Lock()
	isOffline := g.isOffline(id, c.now())
	c.mu.Unlock()
	if !isOffline {
		return id
	}
	other, _, _ := c.cached(g)
	return cmp.Or(other, id)
}

// Listed reports whether the last answer for the group had the client in it.
func (c *Clients) Listed(m Message, id string) bool {
	g := c.group(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(g.online, id)
}

// ask calls the API in its own quota.
func (c *Clients) ask(ctx context.Context, m Message, lane events.Priority) (ids []string, err error) {
	err = Paced(ctx, c.pacer, lane, lookupAttempts, "OnsConsumerGetConnection", func() error {
		ids, err = c.connections.Online(ctx, m.InstanceID, m.GroupID)
		return err
	})
	return ids, err
}

// Paced makes a call of an operation that delivers nothing when its quota has
// room, and again while it is throttled, tries times in all. An error is always an
// [*Error]; of kind Unavailable and without a cause of the API when no slot came
// before ctx's deadline.
func Paced(ctx context.Context, p Pacer, lane events.Priority, tries int, op string, call func() error) error {
	turn, err := p.Turn(ctx, lane)
	if err != nil {
		return noSlot(op, err)
	}
	defer turn.Release()
	for attempt := 1; ; attempt++ {
		slot, err := turn.Book(ctx)
		if err != nil {
			return noSlot(op, err)
		}
		if err = call(); err == nil {
			slot.Report(Accepted)
			return nil
		}
		e := asError(err)
		slot.Report(verdict(e))
		if e.Kind != Throttled || attempt == tries {
			return e
		}
	}
}

// Sleep waits for d, or until ctx ends and returns its error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noSlot is the error of a call that never got its slot.
func noSlot(op string, err error) *Error {
	code := codeLimiter
	if errors.Is(err, ErrNoSlot) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		code = codeNoSlot
	}
	return &Error{Kind: Unavailable, Op: op, Code: code, Err: err}
}

// verdict is what an error says about the quota. Without the API's own request
// id nothing reached its counter, as far as we know.
func verdict(e *Error) Verdict {
	switch {
	case e.Kind == Throttled:
		return Throttling
	case e.RequestID == "" && e.Kind != Unknown:
		return Unused
	}
	return Accepted
}
