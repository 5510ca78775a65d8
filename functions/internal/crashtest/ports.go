// Package crashtest puts points around the calls of the domains at which a test
// kills the process. Only builds with the tag "crash" have it.
package crashtest

import (
	"context"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Pusher has the points "push".
type Pusher struct {
	pushing.Pusher
	*Bomb
}

// Push implements [pushing.Pusher].
func (c Pusher) Push(ctx context.Context, t pushing.Target) (id string, err error) {
	c.around("push", func() { id, err = c.Pusher.Push(ctx, t) })
	return id, err
}

// Connections has the points "online".
type Connections struct {
	pushing.Connections
	*Bomb
}

// Online implements [pushing.Connections].
func (c Connections) Online(ctx context.Context, instance, group string) (ids []string, err error) {
	c.around("online", func() { ids, err = c.Connections.Online(ctx, instance, group) })
	return ids, err
}

// Pacer has the points "turn" and "book".
type Pacer struct {
	pushing.Pacer
	*Bomb
}

// Turn implements [pushing.Pacer].
func (c Pacer) Turn(ctx context.Context, lane events.Priority) (t pushing.Turn, err error) {
	c.around("turn", func() { t, err = c.Pacer.Turn(ctx, lane) })
	if err == nil {
		t = turn{t, c.Bomb}
	}
	return t, err
}

type turn struct {
	pushing.Turn
	*Bomb
}

// Book implements [pushing.Turn].
func (c turn) Book(ctx context.Context) (s pushing.Slot, err error) {
	c.around("book", func() { s, err = c.Turn.Book(ctx) })
	return s, err
}

// Emitter has the points that Call names.
type Emitter struct {
	pushing.Emitter
	*Bomb
	Call string
}

// Send implements [pushing.Emitter].
func (c Emitter) Send(ctx context.Context, batch ...events.Event) (err error) {
	c.around(c.Call, func() { err = c.Emitter.Send(ctx, batch...) })
	return err
}

// Ledger has the points "claim", "sending", "notsent", "park", "receive", "decide" and
// "emitted".
type Ledger struct {
	pushing.Ledger
	*Bomb
}

// Claim implements [pushing.Ledger].
func (c Ledger) Claim(ctx context.Context, ask pushing.Ask) (claim pushing.Claim, err error) {
	c.around("claim", func() { claim, err = c.Ledger.Claim(ctx, ask) })
	return claim, err
}

// MarkSending implements [pushing.Ledger].
func (c Ledger) MarkSending(ctx context.Context, claim pushing.Claim) (err error) {
	c.around("sending", func() { err = c.Ledger.MarkSending(ctx, claim) })
	return err
}

// MarkNotSent implements [pushing.Ledger].
func (c Ledger) MarkNotSent(ctx context.Context, claim pushing.Claim, maybe bool) (err error) {
	c.around("notsent", func() { err = c.Ledger.MarkNotSent(ctx, claim, maybe) })
	return err
}

// Park implements [pushing.Ledger].
func (c Ledger) Park(ctx context.Context, claim pushing.Claim, after time.Duration, code string) (err error) {
	c.around("park", func() { err = c.Ledger.Park(ctx, claim, after, code) })
	return err
}

// Receive implements [pushing.Ledger].
func (c Ledger) Receive(ctx context.Context, ask pushing.Ask, code string) (claim pushing.Claim, err error) {
	c.around("receive", func() { claim, err = c.Ledger.Receive(ctx, ask, code) })
	return claim, err
}

// Decide implements [pushing.Ledger].
func (c Ledger) Decide(ctx context.Context, claim pushing.Claim, d pushing.Decision) (err error) {
	c.around("decide", func() { err = c.Ledger.Decide(ctx, claim, d) })
	return err
}

// MarkEmitted implements [pushing.Ledger].
func (c Ledger) MarkEmitted(ctx context.Context, asks ...pushing.Ask) (err error) {
	c.around("emitted", func() { err = c.Ledger.MarkEmitted(ctx, asks...) })
	return err
}

// Documents has the points "save".
type Documents struct {
	planning.Documents
	*Bomb
}

// Save implements [planning.Documents].
func (c Documents) Save(ctx context.Context, key string, version int64, doc []byte, keep, due time.Duration) (saved int64, err error) {
	c.around("save", func() { saved, err = c.Documents.Save(ctx, key, version, doc, keep, due) })
	return saved, err
}

// Pager has the points "page".
type Pager struct {
	planning.Pager
	*Bomb
}

// DeadLetters implements [planning.Pager].
func (c Pager) DeadLetters(ctx context.Context, q planning.Query) (page planning.Page, err error) {
	c.around("page", func() { page, err = c.Pager.DeadLetters(ctx, q) })
	return page, err
}
